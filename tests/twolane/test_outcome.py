"""The record of a settled job: whole in its key, slim on the stream where it is large."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from arq.jobs import deserialize_result
from hypothesis import given, settings
from hypothesis import strategies as st

from twolane import outcome, wire
from twolane.errors import JobFailure, RemoteError, UndecodablePayload
from twolane.outcome import INLINE_BYTES, Outcome


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(wire.dumps(value))


def settled(result: Any = 42, *, success: bool = True, args: Any = (), **more: Any) -> Outcome:
    return Outcome(
        try_=1,
        function="work",
        args=raw(list(args)),
        kwargs=raw({}),
        enqueued_ms=100,
        success=success,
        result=raw(result),
        started_ms=200,
        finished_ms=300,
        queue="arq:queue",
        id="r-0000001",
        **more,
    )


times = st.floats(0, 1e6)
texts = st.text(max_size=20)


@settings(derandomize=True, deadline=None, database=None)
@given(
    st.builds(
        Outcome,
        try_=st.none() | st.integers(1, 100),
        function=texts,
        args=st.lists(st.integers(0, 9), max_size=3),
        kwargs=st.dictionaries(texts, st.booleans(), max_size=3),
        enqueued_ms=st.integers(0, 2**53),
        success=st.just(True),
        result=st.none() | texts | st.lists(st.integers(0, 9), max_size=3),
        started_ms=st.integers(0, 2**53),
        finished_ms=st.integers(0, 2**53),
        queue=texts,
        id=texts,
        run=st.none() | texts,
        lane=texts,
        worker=texts,
        wait_ms=times,
        run_seconds=times,
        cpu_seconds=times,
        hold_seconds=times,
        memory_bytes=st.integers(0, 2**53),
        blocked_at=st.none() | texts,
        cancelled=st.booleans(),
    )
)
def test_an_outcome_comes_back_as_it_was(one: Outcome) -> None:
    whole, entry = outcome.encode(one)

    assert outcome.decode(whole) == one
    assert entry == b""


def test_an_outcome_up_to_the_limit_goes_on_the_stream_whole() -> None:
    spare = INLINE_BYTES - len(outcome.encode(settled("x" * 300))[0])
    largest = settled("x" * (300 + spare))

    whole, entry = outcome.encode(largest)

    assert len(whole) == INLINE_BYTES
    assert entry == b""


def test_an_outcome_beyond_the_limit_goes_on_the_stream_without_result_and_arguments() -> None:
    large = settled("x" * INLINE_BYTES, args=["argument"], worker="w", wait_ms=5.0, run="r")

    whole, entry = outcome.encode(large)

    slim, full = outcome.decode(entry), outcome.decode(whole)
    assert (slim.partial, slim.result, slim.args, slim.kwargs) == (True, None, [], {})
    assert (full.partial, full.result, full.args) == (False, "x" * INLINE_BYTES, ["argument"])
    assert msgspec.structs.replace(
        slim, partial=False, result=full.result, args=full.args, kwargs=full.kwargs
    ) == full  # fmt: skip
    assert len(entry) < 200


def test_encoding_a_large_outcome_leaves_it_as_it_is() -> None:
    large = settled("x" * INLINE_BYTES)

    outcome.encode(large)

    assert large.partial is False
    assert bytes(large.result) == wire.dumps("x" * INLINE_BYTES)


def test_the_error_of_a_large_outcome_stays_on_the_stream() -> None:
    large = settled(ValueError("x"), success=False, args=["y" * INLINE_BYTES])

    _, entry = outcome.encode(large)

    error = outcome.decode(entry).error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "x")


def test_a_success_has_no_error() -> None:
    whole, _ = outcome.encode(settled())

    assert outcome.decode(whole).error is None


def test_a_failure_has_its_recorded_error() -> None:
    whole, _ = outcome.encode(settled(KeyError("x"), success=False))

    error = outcome.decode(whole).error
    assert isinstance(error, RemoteError)
    assert isinstance(error, JobFailure)
    assert (error.type, error.message) == ("KeyError", "'x'")


def test_a_cancellation_is_no_error() -> None:
    whole, _ = outcome.encode(settled(asyncio.CancelledError(), success=False, cancelled=True))

    found = outcome.decode(whole)
    assert (found.error, found.success, found.cancelled) == (None, False, True)
    assert isinstance(found.result, asyncio.CancelledError)


def test_the_first_eleven_fields_are_arqs() -> None:
    whole, _ = outcome.encode(settled([1, 2], args=["a"], worker="w", wait_ms=1.0))

    theirs = deserialize_result(whole, deserializer=wire.loads)

    assert (theirs.function, theirs.args, theirs.kwargs, theirs.job_try) == ("work", ["a"], {}, 1)
    assert (theirs.success, theirs.result, theirs.queue_name) == (True, [1, 2], "arq:queue")
    assert theirs.finish_time.timestamp() == 0.3


def test_what_was_not_measured_takes_no_room() -> None:
    whole, _ = outcome.encode(settled())

    assert set(wire.loads(whole)) == {"t", "f", "a", "k", "et", "s", "r", "st", "ft", "q", "id"}


@pytest.mark.parametrize(
    "data",
    [b"", b"result", b"\x80", b"\x93\x01\x02\x03", wire.dumps({"t": 1, "f": "work"}), b"\x80\x04."],
)
def test_bytes_that_are_no_result_are_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodablePayload, match="not a job's result"):
        outcome.decode(data)
