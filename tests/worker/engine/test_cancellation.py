"""Jobs that somebody cancels, while they wait and while they run."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

import worker.io
from producer.cancel import cancel_jobs, cancel_run
from tests.conftest import wait_until
from tests.worker.engine.jobs import FOREVER, REGISTRY
from tests.worker.engine.queued import nothing_is_left, one_outcome
from tests.worker.hosting import HostedWorker, enqueue, outcomes
from twolane import dead, keys, runs


async def test_a_waiting_job_is_cancelled_at_once(client: Redis) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)

    assert await cancel_run(client, run) == (3, 0)
    ended = await outcomes(client, run)

    assert [one.cancelled for one in ended] == [True] * 3
    assert await nothing_is_left(client)


async def test_a_running_job_is_stopped_without_waiting_for_the_next_heartbeat(
    client: Redis, running: HostedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.heartbeat.PERIOD_SECONDS", FOREVER)
    first = await one_outcome(client, "add", left=1, right=1)
    assert first.success
    running.pulse.hurry()
    run = await enqueue(client, REGISTRY, "note_cancellation")
    await running.wait_started()

    assert await cancel_run(client, run) == (0, 1)
    (one,) = await outcomes(client, run)

    assert one.cancelled
    assert running.started[-1] == "cancelled"
    assert await client.zcard(keys.ABORTS) == 0
    assert await dead.ids(client) == []


async def test_an_abort_is_seen_among_a_thousand_that_nobody_answered(
    client: Redis, running: HostedWorker
) -> None:
    # arq's Job.abort leaves its request behind where the job was over already.
    seconds, _ = await client.time()
    stale = {f"over-{number}": (seconds - 60) * 1000 for number in range(1_000)}
    await client.zadd(keys.ABORTS, stale)
    run = await enqueue(client, REGISTRY, "wait_for_go")
    await running.wait_started()

    await cancel_run(client, run)

    assert (await outcomes(client, run))[0].cancelled


async def test_a_cancelled_job_that_does_not_let_go_is_settled_after_the_grace(
    client: Redis, running: HostedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.io, "CANCEL_GRACE_SECONDS", 0.1)
    run = await enqueue(client, REGISTRY, "swallow_cancellation")
    await running.wait_started()

    try:
        await cancel_run(client, run)
        (one,) = await outcomes(client, run)
        assert not running.engine.running, "its slot is free"
    finally:
        running.go.set()

    assert one.cancelled
    assert running.started[-1] == "swallowed"


async def test_cancelling_one_job_leaves_the_others_alone(
    client: Redis, running: HostedWorker
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    await running.wait_started(3)

    await cancel_jobs(client, [runs.job_id(run, 1)])

    async def settled() -> bool:
        return (await runs.get(client, run)).settled == 1

    await wait_until(settled, "the cancellation")
    running.go.set()
    assert [one.cancelled for one in await outcomes(client, run)] == [False, True, False]
