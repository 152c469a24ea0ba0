"""How workers end: the first signal, the second one, and a parent that is gone."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.e2e.broker_keys import held
from tests.e2e.conftest import Start, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import fleet, keys, runs
from twolane.registry import Registry


async def tries(client: Redis) -> list[bytes]:
    return [key async for key in client.scan_iter(keys.RETRY_PREFIX + "*")]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_lets_running_jobs_end_and_claims_nothing_more(
    client: Redis, registry: Registry, start: Start, notes: Path, signum: signal.Signals
) -> None:
    run = await enqueue(client, registry, "wait_for_go", *[{"directory": str(notes)}] * 2)
    worker = start("io")
    await wait_noted(notes, "*", 2)

    worker.send(signum)
    await worker.wait_logged("draining, 2 jobs to end")
    late = await enqueue(client, registry, "add", {"left": 1, "right": 1})
    (notes / "go").touch()

    assert await worker.wait() == 0
    assert [one.success for one in await outcomes(client, run)] == [True, True]
    assert (await runs.get(client, late)).settled == 0
    assert await held(client) == []
    assert await tries(client) == []
    assert await fleet.workers(client) == []


@pytest.mark.parametrize("lane", ["io", "cpu"])
async def test_what_outlives_the_grace_is_handed_back_and_runs_elsewhere(
    client: Redis, registry: Registry, start: Start, notes: Path, lane: str
) -> None:
    job_, arguments = {
        "io": ("wait_for_go", [{"directory": str(notes)}] * 2),
        "cpu": ("hold", [{"directory": str(notes), "name": f"held-{n}"} for n in range(2)]),
    }[lane]
    run = await enqueue(client, registry, job_, *arguments)
    worker = start(lane, "--grace", "0.2", "--lease", "60")
    await wait_noted(notes, "*", 2)

    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert await held(client) == []
    assert await tries(client) == []
    (notes / "go").touch()
    other = start(lane)
    ended = await outcomes(client, run)
    assert [one.try_ for one in ended] == [1, 1]
    assert {one.worker for one in ended} == {(await other.heartbeat(client)).worker}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_second_signal_stops_at_once(
    client: Redis,
    registry: Registry,
    start: Start,
    notes: Path,
    signum: signal.Signals,
    code: int,
) -> None:
    await enqueue(client, registry, "wait_for_go", {"directory": str(notes)})
    worker = start("io", "--grace", "600", "--lease", "60")
    await wait_noted(notes, "*")

    worker.send(signum)
    await worker.wait_logged("draining")
    worker.send(signum)

    assert await worker.wait() == code
    assert await wait_noted(notes, "*.cancelled")
    assert await held(client) == []
    assert await tries(client) == []
    assert await client.zcount(keys.IO_QUEUE, "-inf", "+inf") == 1


async def test_a_thread_that_does_not_end_does_not_keep_its_worker(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    # The interpreter waits at its exit for every thread that is not a daemon.
    run = await enqueue(
        client, registry, "block_a_thread", {"directory": str(notes), "seconds": 30.0}
    )
    worker = start("io", "--grace", "0.2", "--lease", "60")
    await wait_noted(notes, "blocked")

    worker.send(signal.SIGTERM)

    assert await worker.wait(25) == 0
    assert await held(client) == []
    assert (await runs.get(client, run)).settled == 0


async def test_a_worker_drains_when_its_parent_is_gone(
    client: Redis, start: Start, registry: Registry
) -> None:
    worker = start("io")
    await worker.heartbeat(client)

    assert worker._process.stdin is not None
    worker._process.stdin.close()

    assert await worker.wait() == 0
