"""The recorder: what is kept of an attempt that ended."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from twolane import job, outcome, wire
from twolane.errors import RemoteError
from twolane.outcome import INLINE_BYTES
from twolane.registry import MARK
from twolane.store import ClaimedJob, Kind
from worker.attempt import Attempt, Ended
from worker.recorder import Recorder, one_line


@job(keep_result=60)
async def greet(name: str) -> str:
    return f"hello {name}"


@job(keep_result=0)
async def forget() -> None: ...


@job(keep_result=None)
async def remember() -> None: ...


def attempt(function: Any = greet, job_id: str = "run-0000001", run: str | None = "run") -> Attempt:
    made = Attempt(ClaimedJob(job_id, b"", 2, 5_000, False, b"fence"), 6_500)
    made.job = getattr(function, MARK)
    made.payload = wire.Payload(
        function.__name__, msgspec.Raw(b"\x91\xa1x"), msgspec.Raw(b"\x80"), 4_000, run=run
    )
    return made


def recorder() -> Recorder:
    return Recorder("io", "io-host-1")


def test_a_success_is_recorded_with_all_that_was_measured() -> None:
    ended = Ended(
        result=wire.dumps("hello x"), run_seconds=0.25, cpu_seconds=0.125, hold_seconds=0.0625,
        memory_bytes=1 << 20, blocked_at="jobs.py:3 in greet",
    )  # fmt: skip

    settlement = recorder().settlement(attempt(), ended, "done")
    record = outcome.decode(settlement.result)

    assert record == outcome.Outcome(
        try_=2, function="greet", args=["x"], kwargs={}, enqueued_ms=4_000, success=True,
        result="hello x", started_ms=6_500, finished_ms=6_750, queue="arq:queue",
        id="run-0000001", run="run", lane="io", worker="io-host-1", wait_ms=1_500,
        run_seconds=0.25, cpu_seconds=0.125, hold_seconds=0.0625, memory_bytes=1 << 20,
        blocked_at="jobs.py:3 in greet",
    )  # fmt: skip
    assert settlement[:2] == ("run-0000001", b"fence")
    assert settlement[3:] == (60_000, "done", "greet", "run", b"")


def test_a_failure_is_recorded_as_its_error() -> None:
    ended = Ended(error=wire.ErrorRecord("ValueError", "no such luck", "Traceback …"))

    record = outcome.decode(recorder().settlement(attempt(), ended, "failed").result)

    assert not record.success
    assert isinstance(record.error, RemoteError)
    assert (record.error.type, record.error.message) == ("ValueError", "no such luck")
    assert record.error.traceback == "Traceback …"


def test_a_cancellation_is_one_whatever_the_job_made_of_it() -> None:
    ended = Ended(result=wire.dumps("finished all the same"))

    record = outcome.decode(recorder().settlement(attempt(), ended, "cancelled").result)

    assert record.cancelled
    assert not record.success
    assert isinstance(record.result, asyncio.CancelledError)


@pytest.mark.parametrize(
    ("function", "keep_ms"),
    [(greet, 60_000), (forget, 0), (remember, -1)],
    ids=["a minute", "not at all", "for good"],
)
def test_a_result_is_kept_for_as_long_as_the_job_says(function: Any, keep_ms: int) -> None:
    assert recorder().settlement(attempt(function), Ended(), "done").keep_ms == keep_ms


def test_what_never_became_a_job_is_recorded_too() -> None:
    made = Attempt(ClaimedJob("night-0000007", b"?", 1, 5_000, False, b"fence"), 6_000)
    ended = Ended(error=wire.ErrorRecord("UndecodablePayload", "not a job's payload"))

    settlement = recorder().settlement(made, ended, "failed")
    record = outcome.decode(settlement.result)

    assert (record.function, record.args, record.kwargs) == ("?", [], {})
    assert (settlement.run, settlement.keep_ms) == ("night", 3_600_000)
    assert record.wait_ms == 1_000


@pytest.mark.parametrize("kind", ["failed", "cancelled"])
def test_arguments_that_nobody_can_read_do_not_make_the_record_unreadable(kind: Kind) -> None:
    # One such job once made the whole run impossible to collect.
    made = attempt()
    assert made.payload is not None
    made.payload.args = msgspec.Raw(b"\x91\xd4\x55\x00")  # an extension type from nowhere

    ended = Ended(error=wire.ErrorRecord("UndecodablePayload", "unknown extension type 85"))
    record = outcome.decode(recorder().settlement(made, ended, kind).result)

    assert record.args == []


def test_a_large_result_is_left_out_of_the_stream() -> None:
    ended = Ended(result=wire.dumps(bytes(INLINE_BYTES)), run_seconds=0.5)

    settlement = recorder().settlement(attempt(), ended, "done")
    whole, entry = outcome.decode(settlement.result), outcome.decode(settlement.entry)

    assert whole.result == bytes(INLINE_BYTES)
    assert entry.partial
    assert len(settlement.entry) < INLINE_BYTES
    assert (entry.result, entry.run_seconds, entry.id) == (None, 0.5, whole.id)


def test_a_large_errors_text_is_on_the_stream() -> None:
    ended = Ended(error=wire.ErrorRecord("ValueError", "x" * INLINE_BYTES))

    entry = outcome.decode(recorder().settlement(attempt(), ended, "failed").entry)

    assert entry.error is not None
    assert entry.error.type == "ValueError"


def test_a_clock_that_is_behind_makes_no_negative_wait() -> None:
    made = attempt()
    made.due_ms = made.started_ms + 10

    assert outcome.decode(recorder().settlement(made, Ended(), "done").result).wait_ms == 0


@pytest.mark.parametrize(
    ("text", "line"),
    {
        "plain": ("no such luck", "no such luck"),
        "lines": ("one\ntwo\r\n", "one two  "),
        "a terminal's commands": ("\x1b[31mred\x07", " [31mred "),
        "long": ("x" * 300, "x" * 199 + "…"),
    }.values(),
)
def test_untrusted_text_is_one_harmless_line_in_the_log(text: str, line: str) -> None:
    assert one_line(text) == line
