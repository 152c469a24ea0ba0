"""What is recorded of a job that goes well, and what its worker tells of itself."""

from __future__ import annotations

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.engine.jobs import REGISTRY
from tests.worker.engine.queued import nothing_is_left, one_outcome
from tests.worker.hosting import HostedWorker, enqueue, outcomes, recorded
from twolane import fleet, keys, outcome, runs


async def test_a_job_is_run_and_recorded_once(client: Redis, running: HostedWorker) -> None:
    run = await enqueue(client, REGISTRY, "add", *[{"left": n, "right": 1} for n in range(50)])
    ended = await outcomes(client, run)

    assert [one.result for one in ended] == list(range(1, 51))
    assert await recorded(client, run) == [runs.job_id(run, n) for n in range(50)]
    assert await nothing_is_left(client)


async def test_an_outcome_has_every_figure(client: Redis, running: HostedWorker) -> None:
    one = await one_outcome(client, "sleep", seconds=0.05)

    assert one.success
    assert one.lane == "io"
    assert one.worker == running.beat.worker
    assert one.try_ == 1
    assert one.wait_ms >= 0
    assert one.run_seconds >= 0.04  # a timer may go off early by its resolution
    assert 0 < one.cpu_seconds < one.run_seconds
    assert 0 < one.hold_seconds < one.run_seconds
    assert one.enqueued_ms <= one.started_ms <= one.finished_ms


async def test_a_computing_job_is_charged_and_a_sleeping_one_is_not(
    client: Redis, running: HostedWorker
) -> None:
    burning = await enqueue(client, REGISTRY, "burn", {"seconds": 0.2})
    sleeping = await enqueue(client, REGISTRY, "sleep", {"seconds": 0.2})
    (burned,), (slept,) = await outcomes(client, burning), await outcomes(client, sleeping)

    assert burned.cpu_seconds >= 0.2
    assert slept.cpu_seconds < burned.cpu_seconds / 5


async def test_a_jobs_context_is_arqs(client: Redis, running: HostedWorker) -> None:
    one = await one_outcome(client, "see_context")

    assert one.result["redis"] == ArqRedis.__name__
    assert one.result["job_id"] == one.id
    assert one.result["job_try"] == 1
    assert int(one.result["enqueue_time"].timestamp() * 1000) == one.enqueued_ms
    assert one.result["score"] == one.started_ms - one.wait_ms

    async def childs() -> bytes | None:
        return await client.get(keys.result(one.result["child"]))

    child = outcome.decode(await wait_until(childs, "the job that the job enqueued"))
    assert child.result == 42


@pytest.mark.parametrize(("function", "ttl_ms"), [("forget", -2), ("remember", -1)])
async def test_a_result_is_kept_for_as_long_as_the_job_says(
    client: Redis, running: HostedWorker, function: str, ttl_ms: int
) -> None:
    one = await one_outcome(client, function)

    assert one.success
    assert await client.pttl(keys.result(one.id)) == ttl_ms


async def test_a_heartbeat_says_what_a_worker_does(client: Redis, running: HostedWorker) -> None:
    await one_outcome(client, "add", left=1, right=1)
    await one_outcome(client, "fail_until", good_try=9)
    run = await enqueue(client, REGISTRY, "wait_for_go")
    await running.wait_started()

    running.pulse.hurry()

    async def busy() -> fleet.Heartbeat | None:
        (beat,) = await fleet.workers(client)
        return beat if beat.busy else None

    beat = await wait_until(busy, "a heartbeat with a running job")
    assert (beat.slots, beat.busy, beat.done, beat.failed, beat.retried) == (10, 1, 1, 1, 2)
    assert beat.memory_bytes > 0
    running.go.set()
    await outcomes(client, run)
