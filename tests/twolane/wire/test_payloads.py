"""Payloads, and arq's own functions with these serializers."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from arq.jobs import deserialize_job, deserialize_job_raw, deserialize_result, serialize_job
from arq.jobs import serialize_result as arq_serialize_result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.twolane.wire.samples import PAYLOAD, raised, stable, texts, values
from twolane import outcome
from twolane.errors import RemoteError, UndecodablePayload
from twolane.wire import dumps, load_payload, loads


def test_a_payload_is_arqs_dictionary_with_its_arguments_still_encoded() -> None:
    payload = load_payload(dumps(PAYLOAD | {"run": "r"}))

    assert (payload.function, payload.enqueued_ms, payload.try_) == ("work", 1, None)
    assert payload.run == "r"
    assert loads(bytes(payload.args)) == [1, "two"]
    assert loads(bytes(payload.kwargs)) == {"three": 3.0}


def test_the_time_of_a_payload_is_utc() -> None:
    payload = load_payload(dumps(PAYLOAD | {"et": 1_700_000_000_123}))

    assert payload.enqueued == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


@settings(stable, max_examples=50)
@given(st.integers(-(2**63), 2**63 - 1))
@example(2**62)
@example(-(2**63))
def test_a_payload_of_any_time_is_dated_or_undecodable(enqueued_ms: int) -> None:
    # A time beyond the calendar once reached the worker as a ValueError of its own.
    with contextlib.suppress(UndecodablePayload):
        assert load_payload(dumps(PAYLOAD | {"et": enqueued_ms})).enqueued.tzinfo is UTC


@pytest.mark.parametrize("missing", ["f", "a", "k", "et"])
def test_a_payload_that_lacks_a_part_is_undecodable_and_says_which(missing: str) -> None:
    data = dumps({name: value for name, value in PAYLOAD.items() if name != missing})

    with pytest.raises(UndecodablePayload, match=f"not a job's payload.*`{missing}`"):
        load_payload(data)


@pytest.mark.parametrize("part", [{"f": None}, {"f": 1}, {"et": "now"}, {"et": 1.5}, {"t": "1"}])
def test_a_payload_with_a_part_of_another_type_is_undecodable(part: dict[str, Any]) -> None:
    with pytest.raises(UndecodablePayload):
        load_payload(dumps(PAYLOAD | part))


@pytest.mark.parametrize("value", [None, 1, "text", [], {}, [PAYLOAD]])
def test_a_value_that_is_no_payload_is_undecodable(value: Any) -> None:
    with pytest.raises(UndecodablePayload):
        load_payload(dumps(value))


# --- arq's own functions with these serializers


@settings(stable)
@given(st.lists(values, max_size=3), st.dictionaries(texts, values, max_size=3))
def test_a_job_that_arq_serialized_is_a_payload(args: list[Any], kwargs: dict[str, Any]) -> None:
    data = serialize_job("work", tuple(args), kwargs, 2, 1_700_000_000_000, serializer=dumps)

    payload = load_payload(data)

    assert (payload.function, payload.try_, payload.enqueued_ms) == ("work", 2, 1_700_000_000_000)
    assert (loads(bytes(payload.args)), loads(bytes(payload.kwargs))) == (args, kwargs)
    assert payload.run is None


def test_arq_deserializes_our_payload() -> None:
    data = dumps(PAYLOAD | {"run": "r"})

    job = deserialize_job(data, deserializer=loads)

    assert (job.function, job.args, job.kwargs) == ("work", [1, "two"], {"three": 3.0})
    assert deserialize_job_raw(data, deserializer=loads) == (
        "work",
        [1, "two"],
        {"three": 3.0},
        None,
        1,
    )


def arq_result(success: bool, result: Any) -> bytes:
    data = arq_serialize_result(
        "work", (1,), {"a": 2}, 1, 10, success, result, 20, 30, "ref", "arq:queue", "the id",
        serializer=dumps,
    )  # fmt: skip
    assert data is not None
    return data


def test_a_result_that_arq_serialized_is_an_outcome() -> None:
    found = outcome.decode(arq_result(True, {"x": [1]}))

    assert (found.success, found.result, found.error) == (True, {"x": [1]}, None)
    assert (found.args, found.kwargs, found.id, found.queue) == (
        [1],
        {"a": 2},
        "the id",
        "arq:queue",
    )


def test_an_error_that_arq_serialized_is_an_outcomes_error() -> None:
    found = outcome.decode(arq_result(False, raised(KeyError("x"))))

    assert found.error is not None
    assert found.error.type == "KeyError"


def test_arq_raises_our_recorded_error() -> None:
    found = deserialize_result(arq_result(False, ValueError("x")), deserializer=loads)

    assert isinstance(found.result, RemoteError)
    assert found.success is False


def test_arq_sees_our_cancellation_as_its_own() -> None:
    data = arq_result(False, asyncio.CancelledError())

    found = deserialize_result(data, deserializer=loads)

    assert isinstance(found.result, asyncio.CancelledError)


def test_a_double_keeps_all_its_bits() -> None:
    subnormal = struct.unpack(">d", b"\x00" * 7 + b"\x01")[0]

    assert loads(dumps([subnormal, float("inf"), 0.1 + 0.2])) == [
        subnormal,
        float("inf"),
        0.1 + 0.2,
    ]
