"""The IO lane by itself: how every kind of job ends, and that it ends once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import msgspec
import pytest

import worker.io
from tests.worker.hosting import registry_of
from twolane import job, wire
from twolane.errors import BadArguments, UndecodablePayload
from twolane.registry import MARK
from twolane.store import ClaimedJob
from worker.attempt import Attempt, Ended, Verdict
from worker.engine import Retry
from worker.io import IoLane
from worker.meter import JobExited

SECOND = 1_000


class Quit(BaseException):
    """What no `except Exception` catches."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Opaque:
    """What has no form on the wire."""


@job
async def add(left: int, right: int = 1) -> int:
    return left + right


@job
async def fail(message: str) -> None:
    raise ValueError(message)


@job
async def exit_python() -> None:
    raise SystemExit(3)


@job
async def interrupt() -> None:
    raise KeyboardInterrupt


@job
async def quit_() -> None:
    raise Quit("enough")


@job
async def fail_without_text() -> None:
    raise Unprintable


@job
async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


@job
async def await_what_was_cancelled() -> None:
    other = asyncio.ensure_future(asyncio.sleep(60))
    other.cancel()
    await other


@job
async def ask_for_another_try(defer: float) -> None:
    raise Retry(defer=defer)


@job
async def return_opaque() -> Any:
    return Opaque()


# What would end the loop, or the task that meets it, and not the job alone.
ENDING = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]


@dataclasses.dataclass
class Leaves:
    x: int
    error = ENDING[0]

    def __post_init__(self) -> None:
        raise self.error


class Nowhere(tzinfo):
    error: BaseException = ZeroDivisionError("no offset")

    def utcoffset(self, when: datetime | None) -> timedelta:
        raise self.error


@job
async def return_what_raises() -> datetime:
    return datetime(2020, 1, 1, tzinfo=Nowhere())


@job
async def return_bytes(count: int) -> bytes:
    return bytes(count)


@job(timeout=0.05)
async def wait_forever() -> None:
    await asyncio.Event().wait()


@job(timeout=0.05)
async def clean_up_slowly() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)


@job(timeout=0.05)
async def return_although_cancelled() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "done all the same"


@job
async def weekday(day: date) -> int:
    return day.weekday()


@job
async def see_context(ctx: dict[str, Any]) -> dict[str, Any]:
    return ctx


@job(lane="io")
def block(value: str) -> list[str]:
    return [value, threading.current_thread().name]


@job(lane="io")
def block_with_context(ctx: dict[str, Any]) -> str:
    return str(ctx["job_id"])


@job(lane="io")
def exit_from_thread() -> None:
    raise SystemExit(3)


@job(lane="io")
def interrupt_from_thread() -> None:
    raise KeyboardInterrupt


@job(lane="io")
def stop_iteration_from_thread() -> Any:
    return next(iter([]))


@job(lane="io")
def quit_from_thread() -> None:
    raise Quit("enough")


@job(lane="io")
def fail_from_thread() -> None:
    raise ValueError("from a thread")


FUNCTIONS: list[Callable[..., Any]] = [
    add, fail, exit_python, interrupt, quit_, fail_without_text, cancel_itself,
    await_what_was_cancelled, ask_for_another_try, return_opaque, return_what_raises,
    return_bytes, wait_forever, clean_up_slowly, return_although_cancelled, weekday, see_context,
    block,
    block_with_context, exit_from_thread, interrupt_from_thread,
    stop_iteration_from_thread, quit_from_thread, fail_from_thread,
]  # fmt: skip


class Bench:
    """A lane, and what it reported."""

    def __init__(
        self,
        *functions: Callable[..., Any],
        slots: int = 100,
        max_result_bytes: int = wire.MAX_RESULT_BYTES,
    ) -> None:
        self.ended: list[tuple[Attempt, Ended]] = []
        self._one_more = asyncio.Event()
        self.lane = IoLane(
            registry_of(functions or FUNCTIONS), {"shared": "with all jobs"}, slots,
            self._finish, Retry, max_result_bytes,
        )  # fmt: skip

    def _finish(self, attempt: Attempt, ended: Ended) -> None:
        self.ended.append((attempt, ended))
        self._one_more.set()

    def attempt(
        self, function: Callable[..., Any], args: bytes = b"\x90", kwargs: bytes = b"\x80"
    ) -> Attempt:
        made = Attempt(ClaimedJob("one", b"", 2, 5 * SECOND, False, b"fence"), 6 * SECOND)
        made.job = getattr(function, MARK)
        made.payload = wire.Payload(
            made.job.name, msgspec.Raw(args), msgspec.Raw(kwargs), 4 * SECOND
        )
        return made

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Attempt:
        attempt = self.attempt(function, wire.dumps(args), wire.dumps(kwargs))
        self.lane.start(attempt)
        return attempt

    async def wait_ended(self, count: int = 1) -> list[Ended]:
        async with asyncio.timeout(10):
            while len(self.ended) < count:
                self._one_more.clear()
                await self._one_more.wait()
        return [ended for _, ended in self.ended]

    async def end_of(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Ended:
        self.start(function, *args, **kwargs)
        (ended,) = await self.wait_ended()
        return ended


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.lane.close()


# -- What a job returns --


async def test_a_coroutine_job_returns_its_value(bench: Bench) -> None:
    ended = await bench.end_of(add, 2, right=3)

    assert ended.error is None
    assert wire.loads(ended.result) == 5
    assert ended.run_seconds > 0


async def test_a_plain_function_runs_in_a_thread(bench: Bench) -> None:
    ended = await bench.end_of(block, "here")

    value, thread = wire.loads(ended.result)
    assert value == "here"
    assert thread != threading.current_thread().name


async def test_arguments_become_what_the_annotations_ask_for(bench: Bench) -> None:
    ended = await bench.end_of(weekday, "2024-02-29")

    assert wire.loads(ended.result) == 3


async def test_a_job_that_asks_for_its_context_gets_arqs(bench: Bench) -> None:
    ended = await bench.end_of(see_context)

    assert wire.loads(ended.result) == {
        "shared": "with all jobs",
        "job_id": "one",
        "job_try": 2,
        "enqueue_time": datetime.fromtimestamp(4, tz=UTC),
        "score": 5 * SECOND,
    }


async def test_a_thread_job_gets_the_context_too(bench: Bench) -> None:
    assert wire.loads((await bench.end_of(block_with_context)).result) == "one"


async def test_one_jobs_changes_of_the_context_are_not_seen_by_another() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @job
    async def change(ctx: dict[str, Any]) -> str:
        before, ctx["shared"] = variable.get(), "changed"
        variable.set("changed")
        return f"{before}, {ctx['shared']}"

    bench = Bench(change)
    bench.start(change)
    bench.start(change)
    ended = await bench.wait_ended(2)
    await bench.lane.close()

    assert [wire.loads(one.result) for one in ended] == ["unset, changed"] * 2


# -- What a job raises --

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


async def test_arqs_retry_asks_for_another_try(bench: Bench) -> None:
    ended = await bench.end_of(ask_for_another_try, 2.5)

    assert ended.retry_in == 2.5


async def test_a_result_without_a_form_on_the_wire_is_no_ones_next_try(bench: Bench) -> None:
    ended = await bench.end_of(return_opaque)

    assert ended.error is not None
    assert ended.error.type == "ResultNotEncodable"
    assert "Opaque" in ended.error.message
    assert not ended.retryable


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


@pytest.mark.parametrize("error", ENDING, ids=repr)
async def test_an_argument_that_exits_as_it_is_made_fails_its_job_alone(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker ended with it, and five of them one after the other; a cancellation ended the
    # conversation that had claimed it, and a worker that had lost both did nothing any more.
    @job
    async def take(one: Leaves) -> None: ...

    monkeypatch.setattr(Leaves, "error", error)

    with pytest.raises(JobExited, match=type(error).__name__):
        Bench(take).start(take, {"x": 1})


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

    within = await small.end_of(return_bytes, 900)
    small.start(return_bytes, 1001)
    over = (await small.wait_ended(2))[1]
    await small.lane.close()

    assert within.error is None
    assert over.error is not None
    assert over.error.type == "ResultTooLarge"
    assert not over.retryable


# -- What arrives --


@pytest.mark.parametrize(
    ("function", "args", "error"),
    {
        "a value of another type": (weekday, wire.dumps(["no day"]), BadArguments),
        "too many": (weekday, wire.dumps(["2024-02-29", 1]), BadArguments),
        "a type from nowhere": (add, b"\x91\xd4\x55\x00", UndecodablePayload),
    }.values(),
)
async def test_arguments_that_do_not_fit_are_refused_before_the_job_starts(
    bench: Bench, function: Callable[..., Any], args: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        bench.lane.start(bench.attempt(function, args))

    assert bench.ended == []


# -- Timeouts and cancellation --


@pytest.mark.parametrize("function", [wait_forever, clean_up_slowly, return_although_cancelled])
async def test_a_job_over_its_timeout_fails_whatever_it_makes_of_it(
    bench: Bench, function: Callable[..., Any]
) -> None:
    ended = await bench.end_of(function)

    assert ended.error is not None
    assert ended.error.type == "JobTimeout"
    assert "0.05 s" in ended.error.message
    assert ended.run_seconds >= 0.04  # a timer may go off early by its resolution


async def test_timeouts_of_a_second_and_more_are_kept_one_by_one() -> None:
    # They are looked at together, not with a timer each.
    @job(timeout=1.0)
    async def wait_a_second() -> None:
        await asyncio.Event().wait()

    @job(timeout=60.0)
    async def wait_a_minute() -> None:
        await asyncio.Event().wait()

    bench = Bench(wait_a_second, wait_a_minute)
    bench.start(wait_a_minute)
    late = [bench.start(wait_a_second) for _ in range(3)]
    ended = await bench.wait_ended(3)

    assert {attempt for attempt, _ in bench.ended} == set(late)
    assert [one.error.type for one in ended if one.error] == ["JobTimeout"] * 3
    assert all(one.run_seconds >= 1.0 for one in ended)
    await bench.lane.close()


async def test_a_thread_over_its_timeout_is_left_behind() -> None:
    let_go, left = threading.Event(), threading.Event()

    @job(lane="io", timeout=0.05)
    def block_until() -> None:
        let_go.wait(60)
        left.set()

    bench = Bench(block_until)
    ended = await bench.end_of(block_until)

    assert ended.error is not None
    assert ended.error.type == "JobTimeout"
    assert not left.is_set()
    let_go.set()
    assert await asyncio.to_thread(left.wait, 10)
    await bench.lane.close()
    assert len(bench.ended) == 1


async def test_threads_that_do_not_end_leave_the_lane_able_to_run_others() -> None:
    # Four slots, and so four threads: a fifth job once waited for one of them to come back.
    let_go = threading.Event()

    @job(lane="io", timeout=0.05)
    def block_until() -> None:
        let_go.wait(60)

    bench = Bench(block_until, block)
    for _ in range(4):
        bench.start(block_until)
    await bench.wait_ended(4)

    try:
        bench.start(block, "not kept waiting")
        ended = (await bench.wait_ended(5))[4]
    finally:
        let_go.set()

    assert wire.loads(ended.result)[0] == "not kept waiting"


@pytest.mark.parametrize("verdict", [Verdict.CANCELLED, Verdict.RELEASED, Verdict.LOST])
async def test_a_stopped_job_ends_with_the_first_verdict(verdict: Verdict) -> None:
    began = asyncio.Event()

    @job
    async def clean_up() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)

    bench = Bench(clean_up)
    attempt = bench.start(clean_up)
    await began.wait()

    bench.lane.stop(attempt, verdict)
    bench.lane.stop(attempt, Verdict.TIMED_OUT)
    await bench.wait_ended()

    assert attempt.verdict is verdict
    assert len(bench.ended) == 1


async def test_a_job_that_swallows_cancellation_loses_its_slot_after_the_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.io, "CANCEL_GRACE_SECONDS", 0.1)
    let_go = asyncio.Event()

    @job(timeout=0.05)
    async def swallow() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    bench = Bench(swallow)
    task = bench.start(swallow).handle
    assert isinstance(task, asyncio.Task)
    try:
        (ended,) = await bench.wait_ended()
        assert not task.done()
    finally:
        let_go.set()
        await asyncio.wait([task])

    assert ended.error is not None
    assert ended.error.type == "JobTimeout"
    await bench.lane.close()
    assert len(bench.ended) == 1


async def test_a_job_that_ended_in_time_is_not_stopped_any_more(bench: Bench) -> None:
    attempt = bench.start(add, 1)
    (ended,) = await bench.wait_ended()

    bench.lane.stop(attempt, Verdict.CANCELLED)

    assert attempt.verdict is None
    assert ended.error is None
    assert len(bench.ended) == 1
