"""What a job is called with, and what it returns."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.worker.io_lane.bench import SECOND, Bench
from tests.worker.io_lane.jobs import (
    ENDING,
    Leaves,
    add,
    block,
    block_with_context,
    see_context,
    weekday,
)
from twolane import job, wire
from twolane.errors import BadArguments, UndecodablePayload
from worker.meter import JobExited


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


async def test_a_thread_sees_the_context_variables_of_who_started_it() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @job(lane="io")
    def look() -> str:
        return variable.get()

    variable.set("set")
    ended = await Bench(look).end_of(look)

    assert wire.loads(ended.result) == "set"


async def test_a_thread_is_charged_for_what_it_computes() -> None:
    @job(lane="io")
    def burn() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    ended = await Bench(burn).end_of(burn)

    assert ended.cpu_seconds >= 0.05


async def test_a_threads_job_does_not_keep_its_worker_from_ending() -> None:
    @job(lane="io")
    def is_daemon() -> bool:
        return threading.current_thread().daemon

    ended = await Bench(is_daemon).end_of(is_daemon)

    assert wire.loads(ended.result) is True


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
        seen = f"{variable.get()}, {ctx['shared']}"
        ctx["shared"] = "changed"
        variable.set("changed")
        return seen

    bench = Bench(change)
    bench.start(change)
    bench.start(change)
    ended = await bench.wait_ended(2)
    await bench.lane.close()

    assert [wire.loads(one.result) for one in ended] == ["unset, with all jobs"] * 2


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


async def test_arguments_that_do_not_fit_in_a_thread_are_no_ones_next_try(bench: Bench) -> None:
    ended = await bench.end_of(block, "one", "too many")

    assert ended.error is not None
    assert ended.error.type == "BadArguments"
    assert not ended.retryable


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
