"""What would take a worker with it: each costs its own job and nothing else."""

from __future__ import annotations

import signal

import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.e2e.conftest import Start
from tests.worker.hosting import enqueue, outcomes
from twolane import fleet, keys, runs
from twolane.registry import Registry

HOSTILE = "tests.e2e.hostile_jobs"


@pytest.fixture(scope="module")
def jobs() -> Registry:
    return Registry.load([HOSTILE])


@pytest.mark.parametrize("lane", ["io", "cpu"])
@pytest.mark.parametrize("score", [1.0, float("-inf")])
async def test_an_id_that_is_not_text_costs_itself_alone(
    client: Redis, jobs: Registry, start: Start, lane: keys.Lane, score: float
) -> None:
    # It ended the worker at each claim, and with it all jobs that were claimed beside it.
    await client.zadd(keys.QUEUES[lane], {b"\xff\xfe": score})
    run = await enqueue(client, jobs, "add", {"left": 1, "right": 2})
    worker = start(lane, modules=(HOSTILE,))
    if lane == "io":
        (added,) = await outcomes(client, run)
        assert added.result == 3

    async def buried() -> bool:
        return await client.zscore(keys.DEAD, b"\xff\xfe") is not None

    await wait_until(buried, "the id among the dead letters")
    assert worker.is_running
    assert await client.zscore(keys.QUEUES[lane], b"\xff\xfe") is None


async def test_a_job_that_swallows_its_cancellation_does_not_keep_its_worker(
    client: Redis, jobs: Registry, start: Start
) -> None:
    worker = start("io", "--grace", "0", modules=(HOSTILE,))
    run = await enqueue(client, jobs, "never_lets_go")
    (stuck,) = await outcomes(client, run)
    assert stuck.error is not None
    assert stuck.error.type == "JobTimeout"

    worker.send(signal.SIGTERM)

    assert await worker.wait(30) == 0


@pytest.mark.parametrize("name", ["stop_the_loop", "interrupt_from_a_task"])
async def test_a_job_that_stops_the_loop_does_not_end_its_worker(
    client: Redis, jobs: Registry, start: Start, name: str
) -> None:
    worker = start("io", modules=(HOSTILE,))
    run = await enqueue(client, jobs, name)

    async def over() -> bool:
        return (await runs.get(client, run)).is_over

    await wait_until(over, "the end of the run")
    (added,) = await outcomes(client, await enqueue(client, jobs, "add", {"left": 1, "right": 2}))

    assert added.result == 3
    assert worker.is_running
    assert "going on" in worker.log


async def test_an_exception_without_a_name_is_recorded_by_its_class(
    client: Redis, jobs: Registry, start: Start
) -> None:
    start("io", modules=(HOSTILE,))

    (failed,) = await outcomes(client, await enqueue(client, jobs, "raise_without_a_name"))

    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("Nameless", "all the same")


async def test_a_worker_whose_loop_is_held_is_told_as_held_and_not_as_gone(
    client: Redis, jobs: Registry, start: Start
) -> None:
    # Its heartbeats stopped, and people were told to start a worker.
    worker = start("io", modules=(HOSTILE,))
    first = await worker.heartbeat(client)
    run = await enqueue(client, jobs, "hold_the_loop", {"seconds": 3.0})

    async def held() -> fleet.Heartbeat | None:
        beats = await fleet.workers(client)
        return next((beat for beat in beats if beat.blocked_by), None)

    beat = await wait_until(held, "a heartbeat that names who holds the loop")

    assert beat.worker == first.worker
    assert beat.at_ms > first.at_ms
    assert "hold_the_loop at " in beat.blocked_by
    assert "hostile_jobs.py:" in beat.blocked_by
    await outcomes(client, run)
    await wait_until(lambda: _free(client), "a heartbeat of the free loop")


async def _free(client: Redis) -> bool:
    return all(not beat.blocked_by for beat in await fleet.workers(client))
