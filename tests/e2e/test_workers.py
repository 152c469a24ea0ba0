"""Workers as people run them: what they measure, how much they claim, when they beat."""

from __future__ import annotations

import signal
from pathlib import Path

from redis.asyncio import Redis

from tests.e2e.broker_keys import held
from tests.e2e.conftest import Start, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import fleet
from twolane.registry import Registry


async def test_cpu_outcomes_have_every_figure(
    client: Redis, registry: Registry, start: Start
) -> None:
    worker = start("cpu")
    beat = await worker.heartbeat(client)
    (one,) = await outcomes(client, await enqueue(client, registry, "compute", {"seconds": 0.1}))

    assert one.success
    assert (one.lane, one.worker, one.try_) == ("cpu", beat.worker, 1)
    assert one.wait_ms >= 0
    assert 0.1 <= one.cpu_seconds <= one.run_seconds * 1.5
    assert one.memory_bytes > 1 << 20
    assert one.finished_ms >= one.started_ms >= one.enqueued_ms


async def test_io_outcomes_have_every_figure(
    client: Redis, registry: Registry, start: Start
) -> None:
    worker = start("io")
    beat = await worker.heartbeat(client)
    (one,) = await outcomes(client, await enqueue(client, registry, "nap", {"seconds": 0.1}))

    assert one.result == worker.pid
    assert (one.lane, one.worker, one.try_) == ("io", beat.worker, 1)
    assert one.wait_ms >= 0
    assert one.run_seconds >= 0.09  # a timer may go off early by its resolution
    assert 0 < one.cpu_seconds < one.run_seconds / 2
    assert 0 < one.hold_seconds < one.run_seconds


async def test_cpu_jobs_run_in_several_processes_at_a_time(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    worker = start("cpu", "--processes", "3")
    each = [{"directory": str(notes), "name": f"held-{n}"} for n in range(3)]
    run = await enqueue(client, registry, "hold", *each)

    await wait_noted(notes, "held-*", 3)
    (notes / "go").touch()
    pids = {one.result for one in await outcomes(client, run)}

    assert len(pids) == 3
    assert worker.pid not in pids


async def test_a_cpu_worker_claims_no_more_than_it_has_processes(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    each = [{"directory": str(notes), "name": f"held-{n}"} for n in range(5)]
    run = await enqueue(client, registry, "hold", *each)
    worker = start("cpu", "--processes", "2")
    await wait_noted(notes, "held-*", 2)

    beat = await worker.heartbeat(client)
    assert len(await held(client)) == 2
    (notes / "go").touch()
    assert len(await outcomes(client, run)) == 5
    assert beat.slots == 2


async def test_a_worker_without_a_broker_says_so_in_one_line(start: Start, tmp_path: Path) -> None:
    worker = start("io", url=f"unix://{tmp_path}/nobody.sock")

    assert await worker.wait() == 3
    assert worker.log.count("\n") == 1
    assert worker.log.startswith("Error: ")


async def test_an_idle_worker_beats_and_a_stopped_one_says_goodbye(
    client: Redis, start: Start
) -> None:
    worker = start("io", "--concurrency", "7")
    beat = await worker.heartbeat(client)

    worker.send(signal.SIGTERM)
    code, left = await worker.wait(), await fleet.workers(client)

    assert (beat.slots, beat.lane, beat.pid) == (7, "io", worker.pid)
    assert (code, left) == (0, [])
