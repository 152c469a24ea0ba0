"""Workers as people run them: signals, lanes, hooks, what they measure and what they survive."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis

from producer.cancel import cancel_run
from tests.conftest import wait_until
from tests.e2e.conftest import Start, alive, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import dead, fleet, keys, runs, wire
from twolane.registry import Registry
from twolane.store import NewJob, Store


async def held(client: Redis) -> list[bytes]:
    return [key async for key in client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")]


async def tries(client: Redis) -> list[bytes]:
    return [key async for key in client.scan_iter(keys.RETRY_PREFIX + "*")]


# -- SIGTERM and Ctrl-C --


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

    assert await worker.wait(8) == 0
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


# -- What a job may do to its worker --


@pytest.mark.parametrize(
    "name", ["exit_python", "exit_python_from_a_thread", "exit_python_from_a_task"]
)
async def test_a_job_that_exits_fails_alone(
    client: Redis, registry: Registry, start: Start, name: str
) -> None:
    worker = start("io")
    (left,) = await outcomes(client, await enqueue(client, registry, name))
    (added,) = await outcomes(
        client, await enqueue(client, registry, "add", {"left": 1, "right": 2})
    )

    assert left.error is not None
    assert left.error.type == "JobExited"
    assert added.result == 3
    assert worker.is_running
    assert left.worker == added.worker


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("leave_at_once", {"status": 7}, "exited with status 7"),
        ("crash", {}, "SIGSEGV"),
    ],
)
async def test_a_cpu_job_that_takes_its_process_down_fails_alone(
    client: Redis,
    registry: Registry,
    start: Start,
    notes: Path,
    name: str,
    arguments: dict[str, int],
    message: str,
) -> None:
    worker = start("cpu")
    beside = await enqueue(client, registry, "hold", {"directory": str(notes), "name": "beside"})
    await wait_noted(notes, "beside")

    (died,) = await outcomes(client, await enqueue(client, registry, name, arguments))
    (after,) = await outcomes(client, await enqueue(client, registry, "own_pid"))
    (notes / "go").touch()
    (held_,) = await outcomes(client, beside)

    assert died.error is not None
    assert died.error.type == "ProcessDied"
    assert message in died.error.message
    assert after.success
    assert held_.result == int((notes / "beside").read_text()), "the other process went on"
    assert worker.is_running


async def test_a_cpu_job_over_its_timeout_costs_its_own_process_alone(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    start("cpu")
    beside = await enqueue(client, registry, "hold", {"directory": str(notes), "name": "beside"})
    await wait_noted(notes, "beside")

    (late,) = await outcomes(client, await enqueue(client, registry, "compute_too_long"))
    (notes / "go").touch()
    (held_,) = await outcomes(client, beside)

    assert late.error is not None
    assert late.error.type == "JobTimeout"
    assert late.run_seconds >= 0.29  # a timer may go off early by its resolution
    assert held_.result == int((notes / "beside").read_text())


async def test_a_failing_cpu_job_gets_its_retries_then_is_a_dead_letter(
    client: Redis, registry: Registry, start: Start
) -> None:
    start("cpu")
    run = await enqueue(client, registry, "fail", {"message": "no such luck"})
    (one,) = await outcomes(client, run)

    assert one.error is not None
    assert (one.error.type, one.error.message) == ("ValueError", "no such luck")
    assert "in fail" in one.error.traceback
    assert one.try_ == 3
    kept = wire.load_payload(await client.hget(keys.dead(one.id), "payload"))
    assert wire.loads(kept.kwargs) == {"message": "no such luck"}


CPU_BAD = {
    "wrong arguments": (b"\x91\x07", b"\x80", "weekday", "BadArguments"),
    "a type from nowhere": (b"\x91\xd4\x55\x00", b"\x80", "weekday", "UndecodablePayload"),
    "an unencodable result": (b"\x90", b"\x80", "opaque", "ResultNotEncodable"),
    "an unknown function": (b"\x90", b"\x80", "nobody_knows", "UnknownFunction"),
    "the other lane's": (b"\x90", b"\x80", "add", "WrongLane"),
}


async def test_bad_payloads_are_recorded_and_the_cpu_worker_goes_on(
    client: Redis, registry: Registry, start: Start
) -> None:
    start("cpu")
    await runs.create(client, "test", "bad")
    jobs = [
        NewJob(runs.job_id("bad", number), _payload(function, args, kwargs))
        for number, (args, kwargs, function, _) in enumerate(CPU_BAD.values())
    ]
    await Store(client).enqueue_many(keys.CPU_QUEUE, jobs, "bad")
    await runs.seal(client, "bad")

    ended = await outcomes(client, "bad")
    (after,) = await outcomes(client, await enqueue(client, registry, "own_pid"))

    assert [one.error.type for one in ended if one.error] == [row[3] for row in CPU_BAD.values()]
    assert [one.try_ for one in ended] == [1] * len(CPU_BAD), "another try would meet the same"
    assert sorted(await dead.ids(client)) == [one.id for one in ended]
    assert after.success


def _payload(function: str, args: bytes, kwargs: bytes) -> bytes:
    head = b"\x86\xa1t\xc0\xa1f" + wire.dumps(function) + b"\xa1a" + args + b"\xa1k" + kwargs
    return head + b"\xa2et\x01\xa3run\xa3bad"


# -- Cancellation --


async def test_a_running_io_job_is_cancelled(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    start("io")
    run = await enqueue(client, registry, "wait_for_go", *[{"directory": str(notes)}] * 2)
    await wait_noted(notes, "*", 2)

    assert await cancel_run(client, run) == (0, 2)
    ended = await outcomes(client, run)

    assert [one.cancelled for one in ended] == [True, True]
    await wait_noted(notes, "*.cancelled", 2)


async def test_a_running_cpu_job_is_cancelled_with_its_process_and_the_waiting_one_too(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    worker = start("cpu", "--processes", "1")
    run = await enqueue(
        client, registry, "hold", *[{"directory": str(notes), "name": f"held-{n}"} for n in "ab"]
    )
    await wait_noted(notes, "held-a")
    pid = int((notes / "held-a").read_text())

    assert await cancel_run(client, run) == (1, 1)
    ended = await outcomes(client, run)
    (after,) = await outcomes(client, await enqueue(client, registry, "own_pid"))

    assert [one.cancelled for one in ended] == [True, True]
    assert after.result != pid
    assert worker.is_running

    async def gone() -> bool:
        return not alive(pid)

    await wait_until(gone, "the end of the job's process")


# -- What is measured --


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


# -- The hooks of a module --

HOOKS = """
import os
from pathlib import Path
from twolane import job

HERE = Path(__file__).parent / "notes"

async def on_startup(ctx):
    with (HERE / "hooks").open("a") as file:
        file.write(f"up with {type(ctx['redis']).__name__}\\n")
    ctx["greeting"] = "hello"

def on_shutdown(ctx):
    with (HERE / "hooks").open("a") as file:
        file.write(f"down after {ctx['greeting']}\\n")

@job
async def greet(ctx):
    return ctx["greeting"]

@job
def compute():
    return 1
"""

BROKEN_HOOK = """
from twolane import job

def on_startup(ctx):
    raise LookupError("no such database")

@job
async def greet():
    return "hello"
"""


async def test_the_hooks_of_a_module_are_called_once_each(
    client: Redis, start: Start, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs_with_hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load(["jobs_with_hooks"])
    worker = start("io", modules=("jobs_with_hooks",))

    ended = await outcomes(client, await enqueue(client, registry, "greet", {}, {}))
    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert [one.result for one in ended] == ["hello", "hello"]
    assert (notes / "hooks").read_text() == "up with ArqRedis\ndown after hello\n"


async def test_a_cpu_worker_calls_no_hooks(
    client: Redis, start: Start, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu_jobs_with_hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load(["cpu_jobs_with_hooks"])
    worker = start("cpu", modules=("cpu_jobs_with_hooks",))

    ended = await outcomes(client, await enqueue(client, registry, "compute"))
    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert [one.result for one in ended] == [1]
    assert not (notes / "hooks").exists()


async def test_a_hook_that_fails_at_the_start_is_one_clear_line(
    client: Redis, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "jobs_with_a_broken_hook.py").write_text(BROKEN_HOOK)
    worker = start("io", modules=("jobs_with_a_broken_hook",))

    assert await worker.wait() == 2
    said = [line for line in worker.log.splitlines() if "failed" in line]
    assert said == [
        "Error: jobs_with_a_broken_hook.on_startup failed: LookupError: no such database"
    ]
    assert "Traceback" not in worker.log


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
