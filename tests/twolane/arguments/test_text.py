"""Arguments read from the text of a command line, and shown as text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twolane.arguments.samples import Opaque, Point, signature, stable
from twolane.arguments import MAX_SHOWN, shown, type_name
from twolane.errors import BadArguments


def from_text(function: Callable[..., Any], text: str) -> Any:
    """What one argument that was typed on a command line is read as."""
    [value] = signature(function).check((), {"a": text}, from_text=True)[1].values()
    return value


def _int(a: int) -> None: ...


def _float(a: float) -> None: ...


def _bool(a: bool) -> None: ...


def _str(a: str) -> None: ...


def _maybe_str(a: str | None) -> None: ...


def _literal(a: Literal["1", "x"]) -> None: ...


def _annotated(a: Annotated[str, "text"]) -> None: ...


def _list(a: list[int]) -> None: ...


def _point(a: Point) -> None: ...


def _date(a: dt.date) -> None: ...


def _any(a: Any) -> None: ...


def _bare(a): ...


@pytest.mark.parametrize(
    ("function", "text", "value"),
    [
        (_int, "10", 10),
        (_int, "-10", -10),
        (_int, "10_000_000", 10_000_000),
        (_float, "1", 1.0),
        (_float, "1e3", 1000.0),
        (_bool, "true", True),
        (_bool, "false", False),
        (_str, "10", "10"),
        (_str, "null", "null"),
        (_str, '"quoted"', '"quoted"'),
        (_str, "", ""),
        (_maybe_str, "null", None),
        (_maybe_str, "text", "text"),
        (_literal, "1", "1"),
        (_annotated, "10", "10"),
        (_list, "[1, 2]", [1, 2]),
        (_point, '{"x": 1}', Point(1)),
        (_date, "2024-02-29", dt.date(2024, 2, 29)),
        (_any, "10", 10),
        (_any, "text", "text"),
        (_any, "[1", "[1"),
        (_bare, "10", 10),
        (_bare, "text", "text"),
    ],
)
def test_text_is_read_as_its_parameter_asks_for(
    function: Callable[..., Any], text: str, value: Any
) -> None:
    read = from_text(function, text)

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (_int, "many"),
        (_int, "1.5"),
        (_int, ""),
        (_int, "null"),
        (_int, "9" * 5_000),
        (_bool, "perhaps"),
        (_literal, "y"),
        (_list, "1"),
        (_list, "[" * 100_000),
        (_point, '{"y": 1}'),
        (_point, '{"x": 1, "zz": 3}'),
        (_date, "2024"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_text_that_is_nothing_of_its_parameters_type_is_refused(
    function: Callable[..., Any], text: str
) -> None:
    with pytest.raises(BadArguments, match=f"job '{function.__name__}': parameter 'a': got "):
        from_text(function, text)


@stable
@given(st.text(max_size=30))
def test_any_text_is_taken_or_refused(text: str) -> None:
    for function in (_int, _float, _bool, _maybe_str, _list, _point, _date, _any, _bare):
        try:
            from_text(function, text)
        except BadArguments:
            continue


# --- how values and types are shown


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (Literal["a", 1], "'a' or 1"),
        (Annotated[int, "more"], "int"),
        (list[int], "list[int]"),
        (int | None, "int | None"),
        (Any, "Any"),
        (Opaque, "Opaque"),
    ],
)
def test_a_type_is_shown_as_a_person_writes_it(kind: Any, text: str) -> None:
    assert type_name(kind) == text


def test_a_long_value_is_cut() -> None:
    text = shown("x" * 1_000_000)

    assert len(text) == MAX_SHOWN
    assert text.startswith("'xxx")
    assert text.endswith("x…")


def test_a_short_value_is_shown_whole() -> None:
    assert shown([1, "a"]) == "[1, 'a']"
