"""Bytes from anyone are a value or undecodable, and nothing of them runs."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.twolane.wire.samples import PAYLOAD, stable
from twolane import outcome, wire
from twolane.errors import UndecodablePayload
from twolane.wire import dumps, load_payload, loads


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


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
