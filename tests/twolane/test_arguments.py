"""Arguments: checked where they are given, converted where they are used."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twolane import wire
from twolane.arguments import MAX_SHOWN, Signature, shown, type_name
from twolane.errors import BadArguments, NotEncodable
from twolane.registry import Job

if TYPE_CHECKING:
    from somewhere import Unresolvable

stable = settings(derandomize=True, deadline=None, database=None)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 1.0


@dataclasses.dataclass
class Line:
    ends: list[Point]
    named: dict[str, Point]
    start: Point | None = None


class Renamed(msgspec.Struct, rename="camel", tag=True):
    line_width: int


class Options(TypedDict, total=False):
    deep: Point


@dataclasses.dataclass
class Reader:
    options: Any

    def __post_init__(self) -> None:
        self.options = Point(len(self.options))


class Colour(enum.Enum):
    RED = "red"


class Opaque:
    pass


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr for you")


def signature(function: Callable[..., Any]) -> Signature:
    return Signature(Job(function.__name__, function, "io"))


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


def from_text(function: Callable[..., Any], text: str) -> Any:
    """What one argument that was typed on a command line is read as."""
    [value] = signature(function).check((), {"a": text}, from_text=True)[1].values()
    return value


def work(low: int, high: int, method: Literal["sieve", "trial"] = "sieve") -> None: ...


# --- check


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2), {}), ((1,), {"high": 2}), ((), {"high": 2, "low": 1})],
)
def test_arguments_travel_by_name(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    assert signature(work).check(args, kwargs) == ([], {"low": 1, "high": 2})


def test_a_default_does_not_travel() -> None:
    assert signature(work).check((1, 2), {})[1].keys() == {"low", "high"}


def test_positional_only_arguments_travel_by_place() -> None:
    def only(a: int, /, b: int, **more: int) -> None: ...

    assert signature(only).check((1, 2), {"a": 3}) == ([1], {"b": 2, "a": 3})


def test_spread_arguments_travel_by_place() -> None:
    def spread(a: int, *rest: int, b: int = 0) -> None: ...

    assert signature(spread).check((1, 2, 3), {"b": 4}) == ([1, 2, 3], {"b": 4})


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((1,), {}, "missing a required argument: 'high'"),
        ((1, 2, "sieve", 4), {}, "too many positional arguments"),
        ((1, 2), {"hihg": 3}, "got an unexpected keyword argument 'hihg'"),
        ((1, 2), {"low": 3}, "multiple values for argument 'low'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_whole_signature(
    args: Sequence[Any], kwargs: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        signature(work).check(args, kwargs)

    assert str(caught.value) == (
        f"job 'work': {says}; it takes "
        "work(low: int, high: int, method: 'sieve' or 'trial' = 'sieve')"
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("low", "1", "got '1': Expected `int`, got `str` (it is declared as int)"),
        ("low", 1.0, "got 1.0: Expected `int`, got `float` (it is declared as int)"),
        ("high", True, "got True: Expected `int`, got `bool` (it is declared as int)"),
        ("high", None, "got None: Expected `int`, got `null` (it is declared as int)"),
        ("method", "x", "got 'x': Invalid enum value 'x' (it is declared as 'sieve' or 'trial')"),
    ],
)
def test_a_value_of_another_type_is_refused_by_parameter_value_and_type(
    name: str, value: Any, says: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        signature(work).check((), {"low": 1, "high": 2, name: value})

    assert str(caught.value) == f"job 'work': parameter {name!r}: {says}"


def test_a_value_deep_within_is_named_by_its_path() -> None:
    def plot(points: list[Point]) -> None: ...

    with pytest.raises(BadArguments, match=r"parameter 'points'.*Expected `int`.*\$\[1\]\.x"):
        signature(plot).check(([{"x": 1}, {"x": "no"}],), {})


def test_a_value_of_a_spread_parameter_is_checked_one_by_one() -> None:
    def spread(*rest: int, **named: float) -> None: ...

    with pytest.raises(BadArguments, match="parameter 'rest': got 'x'"):
        signature(spread).check((1, "x"), {})
    with pytest.raises(BadArguments, match="parameter 'b': got 'y'"):
        signature(spread).check((), {"a": 1, "b": "y"})


def test_a_constraint_of_the_annotation_is_checked() -> None:
    def positive(a: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...

    with pytest.raises(BadArguments, match="got 0: Expected `int` >= 1"):
        signature(positive).check((0,), {})


def test_the_context_is_left_out() -> None:
    async def with_ctx(ctx: dict[str, Any], a: int) -> None: ...

    made = signature(with_ctx)

    assert str(made) == "with_ctx(a: int)"
    assert made.check((1,), {}) == ([], {"a": 1})
    with pytest.raises(BadArguments, match="unexpected keyword argument 'ctx'"):
        made.check((1,), {"ctx": {}})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (2**64, "an integer beyond 64 bits"),
        ("\ud800", "surrogates not allowed"),
        (Opaque(), "a value of type Opaque"),
        ([[Opaque()]], "a value of type Opaque"),
    ],
)
def test_a_value_with_no_form_on_the_wire_is_refused_by_its_parameter(
    value: Any, says: str
) -> None:
    def anything(a: Any) -> None: ...

    with pytest.raises(NotEncodable, match=f"job 'anything': parameter 'a': .*{says}"):
        signature(anything).check((value,), {})


def test_a_value_that_cannot_show_itself_is_refused_all_the_same() -> None:
    with pytest.raises(BadArguments, match="parameter 'low'"):
        signature(work).check((BadRepr(), 2), {})


def test_text_is_not_taken_for_bytes() -> None:
    # msgspec reads text as base64 where bytes are asked for: "aGk=" once became b"hi".
    def store(a: bytes) -> None: ...

    with pytest.raises(BadArguments, match="parameter 'a': got 'aGk='"):
        signature(store).check(("aGk=",), {})


def test_an_integer_is_taken_for_a_float() -> None:
    def wait(a: float) -> None: ...

    assert signature(wait).check((5,), {}) == ([], {"a": 5.0})


UNKNOWN = {"x": 1, "zz": 3}


def _points(a: tuple[Point, ...]) -> None: ...
def _line(a: Line) -> None: ...
def _renamed(a: Renamed) -> None: ...
def _options(a: Options) -> None: ...
def _reader(a: Reader) -> None: ...
def _more(*args: Point, **kwargs: Point) -> None: ...


@pytest.mark.parametrize(
    ("function", "value", "says"),
    [
        (_points, [{"x": 1}, UNKNOWN], "Point has no field 'zz'; it has: x, y"),
        (_line, {"ends": [UNKNOWN], "named": {}}, "Point has no field 'zz'"),
        (_line, {"ends": [], "named": {"a": UNKNOWN}}, "Point has no field 'zz'"),
        (_line, {"ends": [], "named": {}, "start": UNKNOWN}, "Point has no field 'zz'"),
        (_line, {"ends": [], "named": {}, "end": None}, "Line has no field 'end'"),
        (_renamed, {"lineWidth": 1, "line_width": 1}, "Renamed has no field 'line_width'"),
        (_options, {"deep": {"x": 1}, "deeper": 1}, "it has no field 'deeper'"),
        (_options, {"deep": UNKNOWN}, "Point has no field 'zz'"),
    ],
)
def test_a_field_that_the_type_has_not_is_refused_and_not_dropped(
    function: Callable[..., Any], value: Any, says: str
) -> None:
    with pytest.raises(BadArguments, match=f"parameter 'a': got .*: {says}"):
        signature(function).check((value,), {})


def test_a_field_of_a_further_argument_is_checked_too() -> None:
    for args, kwargs in (((UNKNOWN,), {}), ((), {"b": UNKNOWN})):
        with pytest.raises(BadArguments, match="Point has no field 'zz'"):
            signature(_more).check(args, kwargs)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (_points, [{"x": 1}, Point(2)]),
        (_line, {"ends": [{"x": 1, "y": 2}], "named": {"zz": {"x": 1}}, "start": None}),
        (_renamed, {"type": "Renamed", "lineWidth": 1}),
        (_options, {}),
        (_options, {"deep": {"x": 1}}),
        (_reader, {"options": {"any": 1, "thing": 2}}),  # the class reads these itself
    ],
)
def test_fields_that_the_type_has_are_taken(function: Callable[..., Any], value: Any) -> None:
    assert signature(function).check((value,), {})[1].keys() == {"a"}


def test_the_worker_takes_a_field_that_a_newer_producer_sent() -> None:
    assert signature(_points).receive((), {"a": [UNKNOWN]}) == (((Point(1),),), {})


# --- annotations that cannot be checked


def test_without_annotations_everything_is_taken() -> None:
    def anything(a, b=None):  # type: ignore[no-untyped-def]
        ...

    made = signature(anything)

    assert str(made) == "anything(a, b = None)"
    assert made.check((1,), {"b": [2]}) == ([], {"a": 1, "b": [2]})


def test_annotations_that_only_a_type_checker_can_resolve_are_not_checked() -> None:
    def later(a: Unresolvable) -> None: ...

    made = signature(later)

    assert str(made) == "later(a)"
    assert made.check((1,), {}) == ([], {"a": 1})
    assert made.receive([], {"a": 1}) == ([], {"a": 1})


def test_a_return_type_that_cannot_be_resolved_takes_no_check_away() -> None:
    def later(a: int) -> Unresolvable: ...

    with pytest.raises(BadArguments, match="parameter 'a'"):
        signature(later).check(("x",), {})


def test_an_annotation_that_cannot_be_resolved_takes_no_others_check_away() -> None:
    def later(a: int, b: Unresolvable) -> None: ...

    with pytest.raises(BadArguments, match="parameter 'a'"):
        signature(later).check(("x", 1), {})


def test_an_annotation_that_msgspec_does_not_know_is_not_checked() -> None:
    # msgspec cannot tell two kinds of list apart, and refuses the annotation.
    def either(a: list[int] | tuple[str, str]) -> None: ...

    assert signature(either).check(("x",), {}) == ([], {"a": "x"})


# --- receive


def test_plain_arguments_are_passed_through_as_they_are() -> None:
    args, kwargs = [1], {"high": 2}

    def plain(low: int, high: int, more: list = []) -> None: ...  # type: ignore[type-arg]  # noqa: B006

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
    def work(a):  # type: ignore[no-untyped-def]
        return a

    work.__annotations__["a"] = kind

    assert call(work, value) == value
    assert type(call(work, a=value)) is type(value)


points = st.builds(Point, x=st.integers(-(2**63), 2**63 - 1), y=st.floats(allow_nan=False))


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


# --- text from a command line


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
def _bare(a): ...  # type: ignore[no-untyped-def]


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
