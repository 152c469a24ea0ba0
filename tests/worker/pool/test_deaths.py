"""Processes that die: each costs the one job that it ran, and the pool heals."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.worker.pool.running import MODULES, alive, noted, result, submit, wait_until
from twolane import wire
from twolane.errors import ProcessDied
from worker.pool import Pool, Ran
from worker.process import describe_exit

DEATHS = {
    "segmentation fault": (("segfault",), r"killed by SIGSEGV \(segmentation fault\)"),
    "exit with 0": (("leave", 0), "exited with status 0 in the middle of the job"),
    "exit with 7": (("leave", 7), "exited with status 7 in the middle of the job"),
    "half a result": (("die_in_the_middle_of_a_result",), "killed by SIGKILL"),
}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (255, "exited with status 255, or unseen: the process that starts the others died"),
        (-signal.SIGKILL, "killed by SIGKILL (from outside, or by the kernel when memory ran out)"),
        (-signal.SIGSEGV, "killed by SIGSEGV (segmentation fault)"),
        (-100, "killed by signal 100"),
    ],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


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


@pytest.mark.parametrize("name", ["die_leaving_a_program", "die_leaving_a_copy"])
async def test_children_of_a_crashed_job_die_too(pool: Pool, tmp_path: Path, name: str) -> None:
    run = submit(pool, name, f"{tmp_path}/pids")

    with pytest.raises(ProcessDied, match="SIGSEGV"):
        await asyncio.wait_for(run, 30)  # its children live for 60

    pids = await noted(tmp_path / "pids")
    await wait_until(lambda: not any(map(alive, pids)))


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
        descriptor = process._sock.fileno()
        os.kill(pid, signal.SIGKILL)
        hold_the_loop_while(lambda: alive(pid))  # it is not to hear of it first

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
        hold_the_loop_while(lambda: unread_bytes(sock))  # it is not to write any more of it

        os.kill(pid, signal.SIGKILL)
        hold_the_loop_while(lambda: alive(pid))

        assert wire.loads((await run).result) == bytes(4 << 20)
        assert pid not in pool.pids


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    hold_the_loop_while(lambda: psutil.Process(pid).status() != psutil.STATUS_STOPPED)


async def test_a_job_that_had_not_begun_is_the_next_one_in_another_process() -> None:
    order: list[str] = []
    async with Pool(1, MODULES) as pool:
        [pid] = pool.pids
        stop(pid)
        runs = {"first": submit(pool, "echo", bytes(4 << 20)), "second": submit(pool, "add", 1)}
        for name, run in runs.items():
            run.add_done_callback(lambda _, name=name: order.append(name))

        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*runs.values())

    assert order == ["first", "second"]


async def test_a_job_that_had_not_begun_is_given_to_another_process_once(pool: Pool) -> None:
    pids = set(pool.pids)
    for pid in pids:
        stop(pid)
    run = submit(pool, "echo", bytes(4 << 20))
    [first] = [pid for pid, has_job in pool.pids.items() if has_job]
    [second] = pids - {first}

    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: pool.pids.get(second))
    os.kill(second, signal.SIGKILL)

    with pytest.raises(ProcessDied, match="SIGKILL"):
        await run


async def test_a_job_that_had_not_begun_fails_where_the_pool_stops_first() -> None:
    pool = Pool(1, MODULES)
    await pool.start()
    [pid] = pool.pids
    stop(pid)
    run = submit(pool, "echo", bytes(4 << 20))
    assert run.process is not None
    may_be_buried = threading.Event()
    pool._executor.submit(may_be_buried.wait, 20)

    os.kill(pid, signal.SIGKILL)
    await run.process.ended
    stopping = asyncio.create_task(pool.stop())
    asyncio.get_running_loop().call_soon(may_be_buried.set)  # after the first step of stop()
    await stopping

    with pytest.raises(ProcessDied, match="SIGKILL"):
        await asyncio.wait_for(run, 30)


def hold_the_loop_while(condition: Callable[[], object]) -> None:
    while condition():
        time.sleep(0.001)


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
                with contextlib.suppress(ProcessLookupError):  # the kill before this one ended it
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
