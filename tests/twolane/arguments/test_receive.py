"""Arguments are converted where they are used."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twolane.arguments.samples import Point, points, signature, stable
from twolane import wire
from twolane.errors import BadArguments


class Colour(enum.Enum):
    RED = "red"


def sent(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """What the function gets, after the check, the wire and the conversion."""
    made = signature(function)
    out = made.check(args, kwargs)
    got_args, got_kwargs = made.receive(*(wire.loads(wire.dumps(one)) for one in out))
    return tuple(got_args), dict(got_kwargs)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The function's answer, called by way of the wire."""
    got_args, got_kwargs = sent(function, *args, **kwargs)
    return function(*got_args, **got_kwargs)


def test_plain_arguments_are_passed_through_as_they_are() -> None:
    args, kwargs = [1], {"high": 2}

    def plain(low: int, high: int, more: list = []) -> None: ...  # noqa: B006  (people write it)

    got = signature(plain).receive(args, kwargs)

    assert got[0] is args
    assert got[1] is kwargs


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (set[int], {1, 2}),
        (frozenset[str], frozenset({"a"})),
        (Point, Point(3, 0.5)),
        (list[Point], [Point(1), Point(2)]),
        (dict[str, tuple[int, int]], {"a": (1, 2)}),
        (dt.date, dt.date(2024, 2, 29)),
        (dt.datetime, dt.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=dt.UTC)),
        (dt.timedelta, dt.timedelta(days=1, seconds=2)),
        (decimal.Decimal, decimal.Decimal("0.10")),
        (uuid.UUID, uuid.UUID(int=7)),
        (Colour, Colour.RED),
        (Point | None, None),
        (Point | None, Point(1)),
        (bytes, b"\x00\xff"),
        (list[bytes], [b"\xff"]),
        (Any, [1, {"a": None}]),
    ],
    ids=str,
)
def test_a_value_arrives_as_its_annotation_says(kind: Any, value: Any) -> None:
    def work(a):
        return a

    work.__annotations__["a"] = kind

    assert call(work, value) == value
    assert type(call(work, a=value)) is type(value)


@stable
@given(
    st.lists(points, max_size=3),
    st.dates(),
    st.tuples(st.integers(0, 9), st.text(max_size=5)),
    st.none() | st.decimals(allow_nan=False),
)
def test_any_arguments_arrive_as_they_were_given(
    many: list[Point], day: dt.date, pair: tuple[int, str], amount: decimal.Decimal | None
) -> None:
    def work(
        many: list[Point],
        day: dt.date,
        *,
        pair: tuple[int, str],
        amount: decimal.Decimal | None = None,
    ) -> Any:
        return many, day, pair, amount

    assert call(work, many, day, pair=pair, amount=amount) == (many, day, pair, amount)


def test_spread_arguments_arrive_as_their_annotation_says() -> None:
    # They were checked as points, and then arrived as mappings.
    def plot(first: int, *rest: Point, **named: Point) -> Any:
        return first, rest, named

    assert call(plot, 1, Point(2), Point(3), last=Point(4)) == (
        1, (Point(2), Point(3)), {"last": Point(4)},
    )  # fmt: skip


@stable
@given(
    st.lists(st.integers(0, 9), max_size=3),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.sampled_from(["c", "d"]), st.integers(0, 9)),
)
def test_every_kind_of_parameter_gets_what_it_was_given(
    head: list[int], rest: list[int], named: dict[str, int]
) -> None:
    def work(a: int = -1, /, b: int = -2, *others: int, c: int = -3, **more: int) -> Any:
        return a, b, others, c, more

    assert call(work, *head, *rest, **named) == work(*head, *rest, **named)


def test_what_arrives_is_checked_too() -> None:
    def plot(a: Point) -> None: ...

    with pytest.raises(BadArguments, match=r"job 'plot': parameter 'a': got \{'x': 'no'\}: Exp"):
        signature(plot).receive([], {"a": {"x": "no"}})
    with pytest.raises(BadArguments, match="missing a required argument: 'a'"):
        signature(plot).receive([], {})
