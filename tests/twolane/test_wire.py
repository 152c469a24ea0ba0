"""The bytes: what goes out comes back, whatever comes in is data or an error, nothing runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pickle
import struct
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arq.jobs import deserialize_job, deserialize_job_raw, deserialize_result, serialize_job
from arq.jobs import serialize_result as arq_serialize_result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twolane import outcome, wire
from twolane.errors import JobTimeout, NotEncodable, RemoteError, UndecodablePayload
from twolane.wire import ErrorRecord, dumps, dumps_error, error_record, load_payload, loads

stable = settings(derandomize=True, deadline=None, database=None)

texts = st.text(max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=30)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
PAYLOAD: dict[str, Any] = {"t": None, "f": "work", "a": [1, "two"], "k": {"three": 3.0}, "et": 1}


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class PrintsANumber(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]


class ExitsWhenPrinted(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class UnreadableNotes(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise ValueError("no notes for you")


def raised(error: BaseException) -> BaseException:
    with contextlib.suppress(type(error)):
        raise error
    return error


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


# --- values


@stable
@given(values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = loads(dumps(value))

    assert back == value
    assert repr(back) == repr(value)  # 1 is not 1.0, nor True; 0.0 is not -0.0


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (frozenset({3}), [3]),
        (Point(4), {"x": 4}),
        (bytearray(b"5"), b"5"),
        ({(1, 2): 6}, {(1, 2): 6}),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_what_messagepack_lacks_arrives_as_its_nearest(sent: Any, received: Any) -> None:
    assert loads(dumps(sent)) == received


def test_a_memoryview_is_decoded_as_its_bytes() -> None:
    assert loads(memoryview(dumps({"a": 1}))) == {"a": 1}


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, [2**200], {"a": {"b": 2**64}}])
def test_an_integer_beyond_64_bits_is_refused(value: Any) -> None:
    with pytest.raises(NotEncodable, match="64 bits cannot be encoded; pass it as text"):
        dumps(value)


@pytest.mark.parametrize("value", [object(), [object()], {"a": (object(),)}])
def test_an_object_is_refused_by_the_name_of_its_type(value: Any) -> None:
    with pytest.raises(NotEncodable, match="a value of type object cannot be encoded; pass num"):
        dumps(value)


@pytest.mark.parametrize("value", [print, iter(()), Path, Point, {object(): 1}, 1j])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(NotEncodable):
        dumps(value)


@pytest.mark.parametrize("value", ["\ud800", ["a\udfff"], {"\ud800": 1}])
def test_text_with_a_lone_surrogate_is_refused(value: Any) -> None:
    with pytest.raises(NotEncodable, match="surrogates not allowed"):
        dumps(value)


class Nowhere(tzinfo):
    """An object whose own code runs, and fails, while it is encoded."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        raise Unprintable


def test_a_value_whose_own_code_fails_is_refused() -> None:
    with pytest.raises(NotEncodable, match="cannot be encoded: Unprintable"):
        dumps(datetime(2020, 1, 1, tzinfo=Nowhere()))


def test_a_value_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(NotEncodable, match="within itself"):
        dumps(value)


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(NotEncodable, match="nested too deeply"):
        dumps(nested(100_000))


# --- bytes from anyone


def is_data_or_undecodable(data: bytes) -> None:
    for decode in (loads, load_payload, outcome.decode):
        with contextlib.suppress(UndecodablePayload):
            decode(data)


@settings(stable, max_examples=500)
@given(st.binary(max_size=60))
@example(b"")
@example(b"\x01\x01")  # two values
@example(b"\x81\x80\x00")  # a key that cannot be one
@example(b"\xdd\xff\xff\xff\xff")  # a list of 4 billion, without its items
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\xdd\x10\x00\x00\x00" * 20)
@example(b"\xd7\xff" + b"\xff" * 8)  # a time out of all range
@example(b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7)
@example(b"\xa2\xc3\x28")  # text that is no UTF-8
@example(b"\xc1")  # the one byte that MessagePack never uses
def test_any_bytes_are_a_value_or_undecodable(data: bytes) -> None:
    is_data_or_undecodable(data)


@settings(stable, max_examples=300)
@given(st.data())
def test_any_damage_to_a_record_is_a_value_or_undecodable(data: st.DataObject) -> None:
    record = bytearray(dumps(PAYLOAD | {"r": ValueError("x"), "s": False, "st": 1, "ft": 2}))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(record) - 1))
        record[where] = data.draw(st.integers(0, 255))

    is_data_or_undecodable(bytes(record[: data.draw(st.integers(0, len(record)))]))


@pytest.mark.parametrize("cut", range(1, len(dumps(PAYLOAD))))
def test_a_payload_that_is_cut_short_is_undecodable(cut: int) -> None:
    with pytest.raises(UndecodablePayload):
        load_payload(dumps(PAYLOAD)[:cut])


@pytest.mark.parametrize("decode", [loads, load_payload, outcome.decode])
@pytest.mark.parametrize("one", [b"\x91", b"\x81\x01", b"\x81\x91"])
def test_bytes_that_are_nested_too_deeply_are_undecodable(decode: Any, one: bytes) -> None:
    with pytest.raises(UndecodablePayload):
        decode(one * 100_000)


@pytest.mark.parametrize("code", [-128, -2, 0, 2, 127])
def test_an_unknown_extension_type_is_undecodable(code: int) -> None:
    with pytest.raises(UndecodablePayload, match=f"unknown extension type {code}"):
        loads(ext(code, b"data"))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x01", dumps([1]), dumps({"type": 3})])
def test_an_error_extension_that_holds_no_error_is_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodablePayload):
        loads(ext(wire.ERROR_EXT, data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "canary"
    harmful = pickle.dumps({**PAYLOAD, "a": Canary(path)}, protocol)

    for decode in (loads, load_payload, outcome.decode):
        with pytest.raises(UndecodablePayload):
            decode(harmful)

    assert not path.exists()
    pickle.loads(harmful)
    assert path.exists()  # the canary does sing


def test_a_pickle_in_every_place_of_a_payload_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "canary"
    harmful = pickle.dumps(Canary(path))

    for code in range(-128, 128):
        with contextlib.suppress(UndecodablePayload):
            loads(ext(code, harmful))
    assert loads(dumps(harmful)) == harmful
    back = load_payload(dumps(PAYLOAD | {"a": [harmful], "k": {"x": harmful}, "f": "work"}))

    assert loads(bytes(back.args)) == [harmful]
    assert not path.exists()


# --- payloads


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


# --- errors


def test_an_exception_arrives_as_its_type_message_and_traceback() -> None:
    back = loads(dumps(raised(KeyError("missing"))))

    assert isinstance(back, RemoteError)
    assert (back.type, back.message) == ("KeyError", "'missing'")
    assert "in raised" in back.traceback
    assert back.traceback.endswith("KeyError: 'missing'\n")


def test_a_cancellation_arrives_as_one() -> None:
    back = loads(dumps(asyncio.CancelledError("by hand")))

    assert isinstance(back, asyncio.CancelledError)
    assert str(back) == "by hand"


def test_an_error_within_a_value_arrives_in_its_place() -> None:
    back = loads(dumps({"r": [1, ValueError("x")]}))

    assert back["r"][0] == 1
    assert str(back["r"][1]) == "ValueError: x"


def test_an_error_of_ours_that_was_never_raised_has_no_traceback() -> None:
    assert error_record(JobTimeout("after 5 s")) == ErrorRecord("JobTimeout", "after 5 s", "")


def test_a_remote_error_is_passed_on_unchanged() -> None:
    error = raised(RemoteError("ValueError", "x", "the first traceback"))

    assert error_record(error) == ErrorRecord("ValueError", "x", "the first traceback")


@settings(stable)
@given(texts, texts, texts)
def test_a_recorded_error_is_encoded_like_the_exception(
    kind: str, message: str, trace: str
) -> None:
    back = loads(dumps_error(ErrorRecord("Of" + kind, message, trace)))

    assert isinstance(back, RemoteError)
    assert (back.type, back.message, back.traceback) == ("Of" + kind, message, trace)


@settings(stable)
@given(st.text(st.characters(exclude_categories=()), max_size=50))
@example("a\ud800b")
def test_any_message_can_be_encoded(message: str) -> None:
    back = loads(dumps(ValueError(message)))

    assert back.message == message.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("make", [Unprintable, PrintsANumber, ExitsWhenPrinted])
def test_an_error_that_cannot_print_itself_is_recorded(make: type[Exception]) -> None:
    record = error_record(raised(make()))

    assert record.type == make.__name__
    assert record.message.startswith("<its __str__ raised ")
    assert "in raised" in record.traceback


@pytest.mark.parametrize(
    "error",
    [
        UnreadableNotes("x"),
        SyntaxError("x", ("file.py", 1, "not a number", "text")),
        SyntaxError("x", ("file.py", 1, 1, 3)),
    ],
    ids=["notes", "offset", "text"],
)
def test_an_error_whose_traceback_cannot_be_printed_is_recorded(error: Exception) -> None:
    # The traceback module trusts these attributes; a job's own exception may hold anything.
    record = error_record(raised(error))

    assert record.type == type(error).__name__
    assert record.message.startswith("x")


def test_a_remote_error_that_a_job_made_up_itself_is_cut_and_cleaned() -> None:
    made_up = RemoteError("Of\ud800Mine", "\ud800" + "x" * 100_000, "y" * 100_000)

    data = dumps_error(error_record(made_up))

    assert len(data) < 30_000
    assert isinstance(loads(data), RemoteError)


def test_a_long_message_is_cut_in_the_middle() -> None:
    record = error_record(ValueError("head" + "x" * 1_000_000 + "tail"))

    assert len(record.message) < wire.MAX_MESSAGE_CHARS + 100
    assert record.message.startswith("headxxx")
    assert record.message.endswith("xxxtail")
    assert "996008 characters left out" in record.message


def test_the_traceback_of_a_deep_recursion_is_cut() -> None:
    def there() -> None:
        back_again()

    def back_again() -> None:
        there()

    with pytest.raises(RecursionError) as caught:
        there()
    record = error_record(caught.value)

    assert record.type == "RecursionError"
    assert 0 < len(record.traceback) < wire.MAX_TRACEBACK_CHARS + 100


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_the_traceback_of_a_long_chain_of_errors_is_cut(link: str) -> None:
    error = raised(ValueError("first"))
    for number in range(1_000):
        later = raised(ValueError("x" * 100 + f" number {number}"))
        setattr(later, link, error)
        error = later

    record = error_record(error)

    assert len(record.traceback) < wire.MAX_TRACEBACK_CHARS + 100
    assert record.traceback.rstrip().endswith("x number 999")


def test_an_exception_group_is_recorded_with_its_members() -> None:
    record = error_record(
        raised(ExceptionGroup("several", [raised(ValueError("one")), KeyError("two")]))
    )

    assert record.message == "several (2 sub-exceptions)"
    assert "ValueError: one" in record.traceback
    assert "KeyError: 'two'" in record.traceback


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
