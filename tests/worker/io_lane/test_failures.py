"""What a job raises, and what of its results has no form on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.worker.io_lane.bench import Bench
from tests.worker.io_lane.jobs import (
    ENDING,
    Nowhere,
    add,
    ask_for_another_try,
    await_what_was_cancelled,
    cancel_itself,
    exit_from_thread,
    exit_python,
    fail,
    fail_from_thread,
    fail_without_text,
    interrupt,
    interrupt_from_thread,
    quit_,
    quit_from_thread,
    return_bytes,
    return_opaque,
    return_what_nobody_reads,
    return_what_raises,
    stop_iteration_from_thread,
)
from twolane import job, wire
from worker.engine import Retry

FAILURES = {
    "an exception": (fail, ("no such luck",), "ValueError", "no such luck"),
    "sys.exit": (exit_python, (), "JobExited", "SystemExit(3)"),
    "KeyboardInterrupt": (interrupt, (), "JobExited", "KeyboardInterrupt"),
    "a BaseException": (quit_, (), "Quit", "enough"),
    "an exception that fails to print": (fail_without_text, (), "Unprintable", "ValueError"),
    "its own cancellation": (cancel_itself, (), "JobCancelled", "cancelled itself"),
    "the cancellation of what it awaits": (
        await_what_was_cancelled, (), "JobCancelled", "cancelled itself",
    ),
    "an exception in a thread": (fail_from_thread, (), "ValueError", "from a thread"),
    "sys.exit in a thread": (exit_from_thread, (), "JobExited", "SystemExit(3)"),
    "KeyboardInterrupt in a thread": (interrupt_from_thread, (), "JobExited", "KeyboardInterrupt"),
    "StopIteration in a thread": (stop_iteration_from_thread, (), "RuntimeError", "StopIteration"),
    "a BaseException in a thread": (quit_from_thread, (), "Quit", "enough"),
}  # fmt: skip


@pytest.mark.parametrize(("function", "args", "type_", "message"), FAILURES.values(), ids=FAILURES)
async def test_what_a_job_raises_fails_that_job_alone(
    bench: Bench, function: Callable[..., Any], args: tuple[Any, ...], type_: str, message: str
) -> None:
    ended = await bench.end_of(function, *args)

    assert ended.error is not None
    assert ended.error.type == type_
    assert message in ended.error.message
    assert ended.retryable
    assert ended.retry_in is None
    bench.start(add, 1)
    assert wire.loads((await bench.wait_ended(2))[1].result) == 2


async def test_an_error_is_recorded_with_the_traceback_of_the_job(bench: Bench) -> None:
    ended = await bench.end_of(fail, "no such luck")

    assert ended.error is not None
    assert ended.error.traceback.splitlines()[-1] == "ValueError: no such luck"
    assert "in fail" in ended.error.traceback


@pytest.mark.parametrize(
    "function", [exit_python, exit_from_thread, stop_iteration_from_thread, quit_from_thread]
)
async def test_what_ends_more_than_the_job_is_recorded_with_the_jobs_traceback_too(
    bench: Bench, function: Callable[..., Any]
) -> None:
    ended = await bench.end_of(function)

    assert ended.error is not None
    assert f"in {function.__name__}\n" in ended.error.traceback


async def test_arqs_retry_asks_for_another_try(bench: Bench) -> None:
    ended = await bench.end_of(ask_for_another_try, 2.5)

    assert ended.retry_in == 2.5


@pytest.mark.parametrize("defer", ["soon", 10**400, float("nan"), float("inf"), -5])
async def test_another_try_at_no_time_ends_its_job_all_the_same(defer: Any) -> None:
    # Its slot was never free again, and nobody heard of the job before its lease ended.
    @job
    async def ask_oddly() -> None:
        error = Retry()
        error.defer_score = defer
        raise error

    ended = await Bench(ask_oddly).end_of(ask_oddly)

    assert ended.retry_in is not None
    assert 0 <= ended.retry_in < 1e10


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (return_opaque, "Opaque"),
        # An object as the key of a mapping is encoded, and not decoded: the outcomes of all other
        # jobs of the run could not be collected.
        (return_what_nobody_reads, "map keys must be hashable"),
    ],
)
async def test_a_result_that_nobody_could_read_is_a_failure_for_good(
    bench: Bench, function: Callable[..., Any], why: str
) -> None:
    ended = await bench.end_of(function)

    assert ended.error is not None
    assert ended.error.type == "ResultNotEncodable"
    assert why in ended.error.message
    assert not ended.retryable


async def test_a_result_whose_own_code_fails_as_it_is_encoded_ends_its_job(bench: Bench) -> None:
    # Its slot was never free again, and nobody heard of the job before its lease ended.
    ended = await bench.end_of(return_what_raises)

    assert ended.error is not None
    assert ended.error.type == "ResultNotEncodable"
    assert "no offset" in ended.error.message


@pytest.mark.parametrize("error", ENDING, ids=repr)
async def test_a_result_that_exits_as_it_is_encoded_ends_its_job_alone(
    bench: Bench, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its slot was never free again.
    monkeypatch.setattr(Nowhere, "error", error)

    ended = await bench.end_of(return_what_raises)

    assert ended.error is not None
    assert ended.error.type == "JobExited"
    assert type(error).__name__ in ended.error.message


async def test_a_result_over_the_limit_fails() -> None:
    small = Bench(max_result_bytes=1000)

    within = await small.end_of(return_bytes, 997)  # and three bytes that tell how many
    small.start(return_bytes, 998)
    over = (await small.wait_ended(2))[1]
    await small.lane.close()

    assert within.error is None
    assert over.error is not None
    assert over.error.type == "ResultTooLarge"
    assert not over.retryable
