"""Values: what goes out comes back, or is refused before it goes."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from tests.twolane.wire.samples import Unprintable, stable, values
from twolane.errors import NotEncodable
from twolane.wire import dumps, dumps_readable, loads


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


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


@dataclasses.dataclass(frozen=True)
class Place:
    x: int


@pytest.mark.parametrize(
    "value",
    [
        {Place(4): "a mapping is no key"},
        [{(1, frozenset({Place(4)})): "nor within one"}],
        msgspec.Raw(b"\xc1"),
        {"cut short": [msgspec.Raw(b"\xa5four")]},
        [msgspec.Raw(b"\x01\x02")],
        msgspec.msgpack.Ext(5, b"of nobody's"),
        msgspec.msgpack.Ext(1, b"no error"),
    ],
    ids=["key", "in a key", "no MessagePack", "cut short", "two values", "extension", "no error"],
)
def test_a_value_that_could_not_be_read_again_is_not_encoded_to_be_read(value: Any) -> None:
    dumps(value)  # msgspec does not look

    with pytest.raises(NotEncodable, match="could not be decoded again"):
        dumps_readable(value)


@stable
@given(values)
def test_what_can_be_read_again_is_encoded_as_ever(value: Any) -> None:
    assert dumps_readable(value) == dumps(value)
