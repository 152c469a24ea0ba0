"""What is killed, paused or unplugged in the middle of a run, for real: nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from producer.cancel import cancel_run
from tests.conftest import wait_until
from tests.e2e.broker_keys import held
from tests.e2e.conftest import Start, WorkerProcess, alive, wait_noted
from tests.worker.hosting import enqueue, outcomes, recorded
from tests.worker.silencer import Silencer
from twolane import fleet, keys, runs
from twolane.broker import connect
from twolane.embedded import Embedded
from twolane.registry import Job, Registry


async def assert_each_recorded_once(client: Redis, run: str, count: int) -> None:
    ids = [runs.job_id(run, number) for number in range(count)]
    assert await recorded(client, run) == ids
    assert await client.exists(*map(keys.result, ids)) == count
    totals = await runs.get(client, run)
    assert (totals.total, totals.done, totals.failed) == (count, count, 0)
    assert [key async for key in client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")] == []
    assert await client.zcard(keys.IO_QUEUE) == await client.zcard(keys.CPU_QUEUE) == 0


async def wait_settled(client: Redis, run: str, count: int) -> None:
    async def settled() -> bool:
        return (await runs.get(client, run)).settled >= count

    await wait_until(settled, f"{count} outcomes of {run}")


async def wait_fenced(client: Redis, worker: WorkerProcess) -> None:
    async def fenced() -> bool:
        return any(one.fenced for one in await fleet.workers(client) if one.pid == worker.pid)

    await wait_until(fenced, f"a fenced attempt of worker {worker.pid}")


def pid_in(note: Path) -> int:
    return int(note.read_text())


# -- A worker whose processes cannot be started again --


async def test_a_cpu_worker_without_processes_leaves_its_jobs_to_others_until_it_has_some(
    client: Redis, start: Start, notes: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "fickle_jobs.py").write_text(
        "import os\n"
        "from twolane import job\n"
        f"if os.path.exists({str(broken)!r}):\n"
        "    os._exit(3)\n"
        "@job\n"
        "def die(): os._exit(4)\n"
        "@job\n"
        "def pid(): return os.getppid()\n"
    )
    registry = Registry([Job("die", lambda: None, "cpu"), Job("pid", lambda: 0, "cpu")])
    worker = start("cpu", modules=("fickle_jobs",))
    await worker.heartbeat(client)
    broken.touch()
    await wait_settled(client, await enqueue(client, registry, "die", *[{}] * 2), 2)
    await worker.wait_logged("trying again in 0.2 s")

    run = await enqueue(client, registry, "pid", *[{}] * 8)
    await worker.wait_logged("trying again in 1.6 s")
    assert await held(client) == []

    broken.unlink()
    await wait_settled(client, run, 8)
    await assert_each_recorded_once(client, run, 8)
    assert {one.try_ for one in await outcomes(client, run)} == {1}


async def test_a_burst_without_processes_ends_when_others_have_emptied_the_queue(
    client: Redis, start: Start, tmp_path: Path
) -> None:
    # It asked for nothing any more, and so was never told that nothing was left.
    broken = str(tmp_path / "broken")
    (tmp_path / "breaking_jobs.py").write_text(
        "import os\n"
        "from twolane import job\n"
        f"if os.path.exists({broken!r}):\n"
        "    os._exit(3)\n"
        "@job\n"
        "def break_and_die():\n"
        f"    open({broken!r}, 'w').close()\n"
        "    os._exit(4)\n"
        "@job\n"
        "def pid(): return os.getppid()\n"
    )
    registry = Registry([Job("break_and_die", lambda: None, "cpu"), Job("pid", lambda: 0, "cpu")])
    await enqueue(client, registry, "break_and_die", *[{}] * 2)
    run = await enqueue(client, registry, "pid", {})
    await client.zadd(keys.CPU_QUEUE, {runs.job_id(run, 0): 9e12})  # not before the others
    worker = start("cpu", "--burst", modules=("breaking_jobs",))
    await worker.wait_logged("trying again in 0.4 s")

    assert await cancel_run(client, run) == (1, 0)

    assert await worker.wait() == 0


# -- A worker that is killed --


async def test_the_jobs_of_a_killed_io_worker_run_elsewhere_and_are_recorded_once(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    run = await enqueue(client, registry, "first_waits", *[{"directory": str(notes)}] * 20)
    doomed = start("io", "--concurrency", "8")
    await wait_noted(notes, f"*.{doomed.pid}", 8)

    doomed.send(signal.SIGKILL)
    await doomed.wait()
    (notes / "go").touch()
    heir = start("io", "--concurrency", "8", "--lease", "60")
    ended = await outcomes(client, run)

    assert [one.try_ for one in ended] == [2] * 8 + [1] * 12
    assert all(one.result.endswith(f"by {heir.pid}") for one in ended)
    await assert_each_recorded_once(client, run, 20)


async def test_an_io_worker_killed_under_load_loses_and_doubles_nothing(
    client: Redis, registry: Registry, start: Start
) -> None:
    run = await enqueue(client, registry, "nap", *[{"seconds": 0.02}] * 300)
    doomed, heir = (start("io", "--concurrency", "5") for _ in range(2))
    await heir.heartbeat(client)
    await wait_settled(client, run, 50)

    doomed.send(signal.SIGKILL)
    ended = await outcomes(client, run)

    assert {one.result for one in ended} <= {doomed.pid, heir.pid}
    await assert_each_recorded_once(client, run, 300)


async def test_the_jobs_of_a_killed_cpu_worker_run_elsewhere_and_its_processes_end(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    each = [{"directory": str(notes), "name": f"held-{number}"} for number in range(5)]
    run = await enqueue(client, registry, "hold", *each)
    doomed = start("cpu")
    await wait_noted(notes, "held-*", 2)
    orphans = [pid_in(notes / f"held-{number}") for number in range(2)]

    doomed.send(signal.SIGKILL)
    await doomed.wait()
    (notes / "go").touch()
    heir = start("cpu", "--lease", "60")
    ended = await outcomes(client, run)

    assert [one.try_ for one in ended] == [2, 2, 1, 1, 1]
    assert {one.worker for one in ended} == {(await heir.heartbeat(client)).worker}
    assert not {one.result for one in ended} & set(orphans)
    await assert_each_recorded_once(client, run, 5)


async def test_a_killed_cpu_worker_leaves_no_process_behind(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    await enqueue(client, registry, "start_a_child_and_hold", {"directory": str(notes)})
    await enqueue(client, registry, "hold", {"directory": str(notes), "name": "held"})
    worker = start("cpu")
    await wait_noted(notes, "pids")
    await wait_noted(notes, "held")
    family = [*map(int, (notes / "pids").read_text().split()), pid_in(notes / "held")]
    assert all(map(alive, family))

    worker.send(signal.SIGKILL)

    async def gone() -> bool:
        return not any(map(alive, family))

    await wait_until(gone, "the end of the jobs' processes")


# -- A worker that is paused --


async def test_a_paused_worker_cannot_overwrite_a_result_and_stops_its_attempt(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    run = await enqueue(client, registry, "first_waits", {"directory": str(notes)})
    paused = start("io")
    await wait_noted(notes, f"*.{paused.pid}")

    paused.send(signal.SIGSTOP)
    other = start("io", "--lease", "60")
    (one,) = await outcomes(client, run)
    paused.send(signal.SIGCONT)
    await wait_noted(notes, f"*.{paused.pid}.cancelled")
    await wait_fenced(client, paused)

    assert (one.try_, one.result) == (2, f"try 2 by {other.pid}")
    assert (await outcomes(client, run))[0].result == f"try 2 by {other.pid}"
    await assert_each_recorded_once(client, run, 1)


async def test_a_paused_cpu_worker_cannot_overwrite_a_result(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    run = await enqueue(client, registry, "hold", {"directory": str(notes), "name": "held"})
    paused = start("cpu")
    await wait_noted(notes, "held")
    first = pid_in(notes / "held")

    paused.send(signal.SIGSTOP)
    start("cpu", "--lease", "60")

    async def second() -> int | None:
        pid = pid_in(notes / "held")
        return None if pid == first else pid

    theirs = await wait_until(second, "the job's start on the other worker")
    (notes / "go").touch()  # both end now; the paused worker has its answer waiting
    (one,) = await outcomes(client, run)
    paused.send(signal.SIGCONT)
    await wait_fenced(client, paused)

    assert one.result == theirs
    assert (await outcomes(client, run))[0].result == theirs
    await assert_each_recorded_once(client, run, 1)


# -- A job that blocks its worker's loop --


async def test_a_job_that_blocks_the_loop_costs_no_other_job_its_lease(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    worker = start("io", "--lease", "2")
    beside = await enqueue(client, registry, "wait_for_go", *[{"directory": str(notes)}] * 3)
    await wait_noted(notes, "*", 3)
    blocking = await enqueue(client, registry, "block_the_loop", {"seconds": 3.0})

    async def blocked() -> bool:
        return bool(await client.exists(keys.in_progress(runs.job_id(blocking, 0))))

    await wait_until(blocked, "the job that blocks")
    rival = start("io", "--lease", "2")
    await rival.heartbeat(client)
    (one,) = await outcomes(client, blocking)
    (notes / "go").touch()
    ended = await outcomes(client, beside)

    assert one.result == worker.pid
    assert one.hold_seconds >= 3.0
    assert one.blocked_at is not None
    assert one.blocked_at.endswith("in block_the_loop")
    assert "e2e_jobs.py:" in one.blocked_at
    assert [other.try_ for other in ended] == [1, 1, 1]
    assert "has held the event loop" in worker.log
    await assert_each_recorded_once(client, beside, 3)


# -- A broker that goes away --


@pytest.fixture
async def server() -> AsyncIterator[Embedded]:
    """A server that keeps its data when it stops, and flushes each write to the disk."""
    made = Embedded.for_user("always")
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.stop)


async def _stop(server: Embedded) -> None:
    await asyncio.to_thread(server.stop)


async def _kill(server: Embedded) -> None:
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.to_thread(server.stop)  # its keeper; the server itself is gone


@pytest.mark.slow
@pytest.mark.parametrize("end", [_stop, _kill], ids=["stopped", "killed"])
@pytest.mark.parametrize("lane", ["io", "cpu"])
async def test_nothing_is_lost_when_the_broker_goes_away_under_load(
    server: Embedded, registry: Registry, start: Start, lane: str, end: object
) -> None:
    client = connect(server.url)
    job_, arguments, options = {
        "io": ("nap", {"seconds": 0.02}, ["--concurrency", "8"]),
        "cpu": ("compute", {"seconds": 0.005}, []),
    }[lane]
    count = 300
    run = await enqueue(client, registry, job_, *[arguments] * count)
    worker = start(lane, "--lease", "1", *options, url=server.url)
    await wait_settled(client, run, 50)

    await end(server)
    for doing in ("renewing leases", "claiming jobs", "sending heartbeats", "listening for work"):
        await worker.wait_logged(f"broker away while {doing}")
    await asyncio.to_thread(server.start)
    await outcomes(client, run, 30)

    for doing in ("renewing leases", "claiming jobs", "sending heartbeats", "listening for work"):
        await worker.wait_logged(f"broker back while {doing}")
    assert worker.is_running
    assert "Traceback" not in worker.log
    await assert_each_recorded_once(client, run, count)
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0
    await client.aclose()


async def test_a_worker_can_be_stopped_while_its_broker_is_away(
    server: Embedded, start: Start
) -> None:
    client = connect(server.url)
    worker = start("io", url=server.url)
    await worker.heartbeat(client)
    await client.aclose()

    await _stop(server)
    await worker.wait_logged("broker away")
    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert "Traceback" not in worker.log


async def test_an_outcome_reached_during_an_outage_is_recorded_after_it(
    server: Embedded, registry: Registry, start: Start, notes: Path
) -> None:
    client = connect(server.url)
    run = await enqueue(client, registry, "wait_for_go", {"directory": str(notes)})
    worker = start("io", "--lease", "30", url=server.url)
    await wait_noted(notes, f"*.{worker.pid}")

    await _stop(server)
    (notes / "go").touch()
    await worker.wait_logged("broker away while claiming jobs and recording results")
    await asyncio.to_thread(server.start)
    (one,) = await outcomes(client, run)

    assert one.result == f"try 1 by {worker.pid}"
    await assert_each_recorded_once(client, run, 1)
    await client.aclose()


@pytest.mark.slow
async def test_a_worker_whose_connections_fall_silent_opens_others(
    broker: str, client: Redis, registry: Registry, start: Start, tmp_path: Path
) -> None:
    # Its claim was waited for until TCP itself gave up, and for good behind what answers for it.
    silencer = Silencer(broker.removeprefix("unix://"))
    async with silencer.running(f"{tmp_path}/s"):
        worker = start("io", url=f"unix://{tmp_path}/s")
        await worker.heartbeat(client)
        first = await enqueue(client, registry, "nap", {"seconds": 0.0})
        await outcomes(client, first)

        silencer.swallow()
        (one,) = await outcomes(client, await enqueue(client, registry, "nap", {"seconds": 0.0}))

        assert one.result == worker.pid
        worker.send(signal.SIGTERM)
        assert await worker.wait() == 0
