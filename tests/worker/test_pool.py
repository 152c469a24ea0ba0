"""The pool of processes: what a job costs when it ends well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import worker.limits
from twolane import wire
from twolane.errors import JobDefinitionError, JobTimeout, ProcessDied
from worker.pool import Pool, Ran, Run

MODULES = ["tests.worker.pool_jobs"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(2, MODULES) as pool:
        yield pool


def submit(pool: Pool, name: str, *args: Any, timeout: float | None = None, **kwargs: Any) -> Run:
    return pool.run(name, wire.dumps([args, kwargs]), timeout)


async def result(pool: Pool, name: str, *args: Any, **kwargs: Any) -> Any:
    ran = await submit(pool, name, *args, **kwargs)
    assert ran.ok, ran.error
    return wire.loads(ran.result)


async def failure(pool: Pool, name: str, *args: Any) -> wire.ErrorRecord:
    ran = await submit(pool, name, *args)
    assert not ran.ok
    assert ran.result == b""
    assert ran.error is not None
    return ran.error


async def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what happens, happens in other processes)
            await asyncio.sleep(0.005)


async def noted(path: Path) -> list[int]:
    """The process ids that a job wrote when it had come that far."""
    await wait_until(path.exists)
    return _pids(path)


def _pids(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- What a job returns and raises --


async def test_a_result_comes_back_encoded_with_what_it_cost(pool: Pool) -> None:
    ran = await submit(pool, "add", 2, right=3)

    assert ran.ok
    assert ran.result == wire.dumps(5)
    assert ran.error is None
    assert ran.run_seconds > 0
    assert ran.cpu_seconds >= 0
    assert ran.peak_memory_bytes > 1 << 20
    assert ran.pid in pool.pids


async def test_arguments_become_what_the_annotations_ask_for(pool: Pool) -> None:
    assert await result(pool, "weekday", "2024-02-29") == 3


@pytest.mark.parametrize("in_a_child", [False, True])
async def test_cpu_seconds_include_child_processes(pool: Pool, in_a_child: bool) -> None:
    await submit(pool, "burn", 0.1, True)

    ran = await submit(pool, "burn", 0.2, in_a_child)

    assert 0.19 < ran.cpu_seconds < 0.29


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the peak be set back")
async def test_peak_memory_is_that_of_the_job_and_not_of_the_one_before() -> None:
    async with Pool(1, MODULES) as pool:
        large = await submit(pool, "touch", 60)
        small = await submit(pool, "add", 1)

    assert large.peak_memory_bytes > 100 << 20
    assert small.peak_memory_bytes < 100 << 20


FAILURES = {
    "an exception": (("fail", "no such luck"), "ValueError", "no such luck"),
    "sys.exit": (("exit_python",), "SystemExit", "enough"),
    "KeyboardInterrupt": (("interrupt",), "KeyboardInterrupt", ""),
    "MemoryError": (("exhaust_memory",), "MemoryError", ""),
    "a result without a form": (("unencodable",), "ResultNotEncodable", "type object"),
    "a result over the limit": (("zeros", 2 << 20), "ResultTooLarge", "1,048,576"),
    "a name that no job has": (("nothing",), "UnknownFunction", "'nothing'"),
    "a coroutine function": (("waits",), "WrongLane", "IO lane"),
    "arguments that do not fit": (("add", 1, 2, 3), "BadArguments", "add("),
}


@pytest.mark.parametrize(("call", "kind", "message"), FAILURES.values(), ids=FAILURES)
async def test_a_failing_job_leaves_its_process_alone(
    call: tuple[Any, ...], kind: str, message: str
) -> None:
    async with Pool(1, MODULES, max_result_bytes=1 << 20) as pool:
        before = await result(pool, "own_pid")

        error = await failure(pool, *call)

        assert error.type == kind
        assert message in error.message
        assert await result(pool, "own_pid") == before


async def test_arguments_that_are_no_messagepack_fail_the_job(pool: Pool) -> None:
    ran = await pool.run("add", b"\xc1")

    assert ran.error is not None
    assert ran.error.type == "UndecodablePayload"


async def test_a_failure_carries_its_traceback(pool: Pool) -> None:
    error = await failure(pool, "fail", "no such luck")

    assert "raise ValueError(message)\nValueError: no such luck" in error.traceback


# -- Order --


async def test_jobs_wait_in_the_order_of_their_submission(tmp_path: Path) -> None:
    order: list[int] = []
    async with Pool(1, MODULES) as pool:
        runs = [submit(pool, "echo", number) for number in range(20)]
        for run in runs:
            run.add_done_callback(lambda run: order.append(wire.loads(run.result().result)))
        assert pool.busy == 1
        await asyncio.gather(*runs)

    assert order == list(range(20))


async def test_payloads_of_megabytes_pass_in_both_directions_at_once(pool: Pool) -> None:
    sent = [os.urandom(4 << 20) for _ in range(4)]

    got = await asyncio.gather(*(result(pool, "echo", payload) for payload in sent))

    assert got == sent


# -- Timeouts and cancellation --


async def test_a_timeout_kills_that_process_and_no_other(pool: Pool, tmp_path: Path) -> None:
    other = submit(pool, "wait_for_file", f"{tmp_path}/other", f"{tmp_path}/go")
    [other_pid] = await noted(tmp_path / "other")

    run = submit(pool, "spin", f"{tmp_path}/spins", timeout=0.3)
    with pytest.raises(JobTimeout, match=r"0\.3 s"):
        await run

    [pid] = await noted(tmp_path / "spins")
    assert not alive(pid)
    (tmp_path / "go").touch()
    assert wire.loads((await other).result) == other_pid
    assert await result(pool, "add", 1) == 2


async def test_a_timeout_counts_from_the_start_in_a_process(tmp_path: Path) -> None:
    async with Pool(1, MODULES) as pool:
        first = submit(pool, "wait_for_file", f"{tmp_path}/first", f"{tmp_path}/go")
        second = submit(pool, "add", 1, timeout=0.2)
        asyncio.get_running_loop().call_later(0.4, (tmp_path / "go").touch)

        assert (await first).ok
        assert (await second).ok


async def test_of_many_timeouts_each_is_kept(pool: Pool, tmp_path: Path) -> None:
    late = submit(pool, "spin", f"{tmp_path}/late", timeout=0.4)
    early = submit(pool, "spin", f"{tmp_path}/early", timeout=0.1)

    with pytest.raises(JobTimeout, match=r"0\.1 s"):
        await early
    assert not late.done()
    with pytest.raises(JobTimeout, match=r"0\.4 s"):
        await late


async def test_children_of_a_job_die_with_it(pool: Pool, tmp_path: Path) -> None:
    run = submit(pool, "spin_with_children", f"{tmp_path}/pids")
    pids = await noted(tmp_path / "pids")
    assert all(map(alive, pids))

    run.cancel()

    await wait_until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("name", ["die_leaving_a_program", "die_leaving_a_copy"])
async def test_children_of_a_crashed_job_die_too(pool: Pool, tmp_path: Path, name: str) -> None:
    run = submit(pool, name, f"{tmp_path}/pids")

    with pytest.raises(ProcessDied, match="SIGSEGV"):
        await asyncio.wait_for(run, 3)

    pids = await noted(tmp_path / "pids")
    await wait_until(lambda: not any(map(alive, pids)))


async def test_cancelling_kills_that_process_and_no_other(pool: Pool, tmp_path: Path) -> None:
    other = submit(pool, "wait_for_file", f"{tmp_path}/other", f"{tmp_path}/go")
    run = submit(pool, "spin", f"{tmp_path}/spins")
    [other_pid] = await noted(tmp_path / "other")
    [pid] = await noted(tmp_path / "spins")

    run.cancel()

    await wait_until(lambda: not alive(pid))
    (tmp_path / "go").touch()
    assert wire.loads((await other).result) == other_pid
    await wait_until(lambda: pool.busy == 0 and len(pool.pids) == 2)
    assert pool.restarts == 1


async def test_cancelling_the_task_that_waits_cancels_the_job(pool: Pool, tmp_path: Path) -> None:
    task = asyncio.create_task(result(pool, "spin", f"{tmp_path}/spins"))
    [pid] = await noted(tmp_path / "spins")

    task.cancel()

    await wait_until(lambda: not alive(pid))


async def test_cancelling_a_waiting_job_kills_nothing(tmp_path: Path) -> None:
    async with Pool(1, MODULES) as pool:
        running = submit(pool, "wait_for_file", f"{tmp_path}/first", f"{tmp_path}/go")
        waiting = submit(pool, "spin", f"{tmp_path}/never")
        last = submit(pool, "own_pid")

        waiting.cancel()
        (tmp_path / "go").touch()

        assert wire.loads((await running).result) == wire.loads((await last).result)
        assert not (tmp_path / "never").exists()
        assert pool.restarts == 0


# -- Deaths --

DEATHS = {
    "segmentation fault": (("segfault",), r"killed by SIGSEGV \(segmentation fault\)"),
    "exit with 0": (("leave", 0), "exited with status 0 in the middle of the job"),
    "exit with 7": (("leave", 7), "exited with status 7 in the middle of the job"),
    "half a result": (("die_in_the_middle_of_a_result",), "killed by SIGKILL"),
}


@pytest.mark.parametrize(("call", "message"), DEATHS.values(), ids=DEATHS)
async def test_a_death_fails_that_job_and_the_pool_heals(
    pool: Pool, tmp_path: Path, call: tuple[Any, ...], message: str
) -> None:
    other = submit(pool, "wait_for_file", f"{tmp_path}/other", f"{tmp_path}/go")
    [other_pid] = await noted(tmp_path / "other")

    with pytest.raises(ProcessDied, match=message):
        await submit(pool, *call)

    assert await result(pool, "add", 1) == 2
    (tmp_path / "go").touch()
    assert wire.loads((await other).result) == other_pid
    assert len(pool.pids) == 2


async def test_a_kill_from_outside_fails_that_job_alone(pool: Pool, tmp_path: Path) -> None:
    run = submit(pool, "spin", f"{tmp_path}/pid")
    [pid] = await noted(tmp_path / "pid")

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(ProcessDied, match="killed by SIGKILL"):
        await run
    assert await result(pool, "add", 1) == 2


async def test_killing_idle_processes_fails_no_job(pool: Pool) -> None:
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)

    runs = [submit(pool, "add", number) for number in range(10)]

    assert all(ran.ok for ran in await asyncio.gather(*runs))


async def test_a_death_between_being_writable_and_the_write_leaves_nothing_watched() -> None:
    """The loop went on calling the writer, of a closed socket then, thousands of times."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    async with Pool(1, MODULES) as pool:
        [pid] = pool.pids
        os.kill(pid, signal.SIGSTOP)
        run = submit(pool, "echo", bytes(4 << 20))
        process = run.process
        assert process is not None
        descriptor = process._sock.fileno()  # type: ignore[union-attr]
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.001)  # noqa: ASYNC251  (the loop is not to hear of it first)

        process._writable()

        assert not asyncio.get_running_loop().remove_writer(descriptor)
        assert (await run).ok  # in another process: this one had not read the whole of it
    assert complaints == []


async def test_a_death_before_the_rest_of_the_request_was_written_costs_the_job_nothing() -> None:
    """It had read all that was there, so nothing was left unread: the job was failed."""
    async with Pool(1, MODULES) as pool:
        [pid] = pool.pids
        run = submit(pool, "echo", bytes(4 << 20))
        assert run.process is not None
        sock = run.process._sock
        while unread_bytes(sock):
            time.sleep(0.001)  # noqa: ASYNC251  (the loop is not to write any more of it)

        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.001)  # noqa: ASYNC251

        assert wire.loads((await run).result) == bytes(4 << 20)
        assert pid not in pool.pids


def unread_bytes(sock: Any) -> int:
    """How much of what was written to a socket of a pair its other end has not read."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


async def test_under_random_kills_all_jobs_settle_and_only_killed_ones_fail() -> None:
    draw = random.Random(11)
    payloads = [wire.dumps([[bytes([number]) * (4 << 20)], {}]) for number in range(100)]
    kills = 0
    async with Pool(4, MODULES) as pool:
        runs = [pool.run("echo", payload) for payload in payloads]

        while not all(run.done() for run in runs):
            busy = [pid for pid, runs_a_job in pool.pids.items() if runs_a_job and alive(pid)]
            if busy and kills < 25:
                os.kill(draw.choice(busy), signal.SIGKILL)
                kills += 1
            await asyncio.sleep(draw.uniform(0, 0.02))
        outcomes = await asyncio.gather(*runs, return_exceptions=True)

    failed = [one for one in outcomes if not isinstance(one, Ran)]
    assert kills > 5
    assert len(failed) <= kills
    assert all(isinstance(one, ProcessDied) and "SIGKILL" in str(one) for one in failed)
    for number, one in enumerate(outcomes):
        if isinstance(one, Ran):
            assert wire.loads(one.result) == bytes([number]) * (4 << 20)


async def test_exactly_the_killed_jobs_fail(tmp_path: Path) -> None:
    doomed = set(random.Random(12).sample(range(100), 12))
    async with Pool(4, MODULES) as pool:
        runs = {
            number: submit(pool, "spin", f"{tmp_path}/{number}")
            if number in doomed
            else submit(pool, "echo", bytes([number]) * (4 << 20))
            for number in range(100)
        }
        for number in sorted(doomed):
            [pid] = await noted(tmp_path / str(number))
            os.kill(pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*runs.values(), return_exceptions=True)

    assert {n for n, one in enumerate(outcomes) if isinstance(one, ProcessDied)} == doomed
    assert sum(isinstance(one, Ran) and one.ok for one in outcomes) == 88


# -- Limits and recycling --


async def test_a_process_over_the_memory_limit_is_killed_in_the_job() -> None:
    async with Pool(1, MODULES, max_memory_bytes=90 << 20) as pool:
        with pytest.raises(ProcessDied, match="memory limit of 90 MiB"):
            await submit(pool, "swell", 100)

        assert await result(pool, "add", 1) == 2


async def test_a_process_that_keeps_too_much_is_replaced_after_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.limits, "MEMORY_POLL_SECONDS", 3600)
    async with Pool(1, MODULES, max_memory_bytes=90 << 20) as pool:
        first = await result(pool, "keep", 5)
        second = await result(pool, "keep", 100)
        third = await result(pool, "keep", 5)

    assert first == second
    assert third != first


async def test_processes_are_recycled_by_count() -> None:
    async with Pool(1, MODULES, max_jobs_per_process=3) as pool:
        pids = [await result(pool, "own_pid") for _ in range(9)]
        await wait_until(lambda: not alive(pids[0]))

    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6, 6, 6]


async def test_a_successor_does_not_make_more_jobs_run_than_there_are_processes(
    tmp_path: Path,
) -> None:
    async with Pool(1, MODULES, max_jobs_per_process=1) as pool:
        first = submit(pool, "wait_for_file", f"{tmp_path}/first", f"{tmp_path}/go")
        second = submit(pool, "add", 1)
        await wait_until(lambda: len(pool.pids) == 2 and pool._idle)

        assert pool.busy == 1
        assert not second.done()
        (tmp_path / "go").touch()
        assert (await first).ok
        assert (await second).ok


# -- Starting and stopping --


async def test_a_module_that_cannot_be_imported_fails_the_start() -> None:
    with pytest.raises(JobDefinitionError, match=r"tests\.worker\.missing"):
        await Pool(2, ["tests.worker.missing"]).start()


async def test_a_module_that_ends_the_process_fails_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_jobs.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ProcessDied, match="exited with status 3 while it loaded the jobs"):
        await Pool(2, ["deadly_jobs"]).start()


async def test_jobs_wait_while_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "fickle_jobs.py").write_text(
        "import os\n"
        "from twolane import job\n"
        f"if os.path.exists({str(broken)!r}):\n"
        f"    open({str(broken)!r}, 'a').write('x')\n"
        "    os._exit(3)\n"
        "@job\n"
        "def pid(): return os.getpid()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool(1, ["fickle_jobs"]) as pool:
        broken.touch()
        os.kill(await result(pool, "pid"), signal.SIGKILL)
        await wait_until(lambda: len(broken.read_text()) >= 2)
        run = submit(pool, "pid")
        assert not run.done()

        broken.unlink()

        assert (await run).ok


async def test_stopping_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    async with Pool(2, MODULES) as warm:  # the forkserver stays, with descriptors of its own
        await result(warm, "add", 1)
    descriptors = set(os.listdir("/dev/fd"))
    pool = Pool(2, MODULES)
    await pool.start()
    runs = [submit(pool, "spin_with_children", f"{tmp_path}/{n}") for n in range(3)]
    pids = [*await noted(tmp_path / "0"), *await noted(tmp_path / "1")]
    own = list(pool.pids)

    await pool.stop()
    await pool.stop()

    assert not any(map(alive, own))
    await wait_until(lambda: not any(map(alive, pids)))  # the jobs' children, killed with them
    assert pool.pids == {}
    assert pool.busy == 0
    for run in runs:
        with pytest.raises(ProcessDied, match="the pool was stopped"):
            await run
    assert len(os.listdir("/dev/fd")) == len(descriptors)
    with pytest.raises(RuntimeError, match="not running"):
        submit(pool, "add", 1)


async def test_a_cancelled_start_leaves_no_process() -> None:
    pool = Pool(2, MODULES)
    start = asyncio.create_task(pool.start())
    await wait_until(lambda: pool.pids)
    pids = list(pool.pids)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert not any(map(alive, pids))


SCRIPT = """
import asyncio, sys
from twolane import wire
from worker.pool import Pool

async def main(directory):
    async with Pool(3, ["tests.worker.pool_jobs"]) as pool:
        spin = wire.dumps([[directory + "/spins"], {}])
        wait = wire.dumps([[directory + "/waits", directory + "/never"], {}])
        await asyncio.gather(
            pool.run("spin_with_children", spin), pool.run("wait_for_file", wait)
        )

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_no_process_outlives_a_killed_worker(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(tmp_path),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        pids = [*await noted(tmp_path / "spins"), *await noted(tmp_path / "waits")]
        pids += [one.pid for one in psutil.Process(parent.pid).children(recursive=True)]
        assert len(set(pids)) >= 5

        parent.send_signal(how)
        await asyncio.wait_for(parent.wait(), 30)

        await wait_until(lambda: not any(map(alive, pids)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        await parent.wait()


async def test_a_script_without_a_guard_is_told_and_does_not_hang(tmp_path: Path) -> None:
    """Starting a process imports the script, which starts a pool in the process, which hung."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))

    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(tmp_path),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        _, err = await asyncio.wait_for(parent.communicate(), 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()

    assert b"if __name__ == '__main__':" in err
    assert b"while it loaded the jobs" in err


# -- What a job can do to the pool's descriptors --


async def test_prints_harm_nothing_and_go_to_standard_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio\n"
        "from twolane import wire\n"
        "from worker.pool import Pool\n"
        "async def main():\n"
        "    async with Pool(1, ['tests.worker.pool_jobs']) as pool:\n"
        "        ran = await pool.run('talk', wire.dumps([[], {}]))\n"
        "        print('ok' if ran.ok else ran.error)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )

    done = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await done.communicate()

    assert out == b"ok\n"
    assert err.splitlines() == [b"said with print", b"said to descriptor 1", b"said by a child"]


async def test_a_copy_that_a_job_forked_answers_nothing(pool: Pool) -> None:
    for number in range(3):
        assert await result(pool, "fork_and_return") == "original"
        assert await result(pool, "echo", number) == number


async def test_programs_that_a_job_starts_inherit_no_descriptor_of_the_pool(pool: Pool) -> None:
    # 3 is the directory that ls reads.
    assert set(await result(pool, "inherited_descriptors")) <= {0, 1, 2, 3}


async def test_each_process_leads_a_group_of_its_own(pool: Pool) -> None:
    pid, group = await result(pool, "own_group")

    assert pid == group
