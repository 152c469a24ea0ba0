"""What comes back of a job: its result or its error, and what it cost."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest

from tests.worker.pool.running import MODULES, failure, result, submit
from twolane import wire
from worker.pool import Pool


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
    await submit(pool, "burn", 0.5, True)

    ran = await submit(pool, "burn", 0.2, in_a_child)

    assert 0.19 < ran.cpu_seconds < 0.5, "those of the job before are not its own"


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
    "a result that nobody can read": (("unreadable",), "ResultNotEncodable", "must be hashable"),
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


async def test_payloads_of_megabytes_pass_in_both_directions_at_once(pool: Pool) -> None:
    sent = [os.urandom(4 << 20) for _ in range(4)]

    got = await asyncio.gather(*(result(pool, "echo", payload) for payload in sent))

    assert got == sent
