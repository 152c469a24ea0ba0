"""Arguments are checked where they are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec
import pytest

from tests.twolane.arguments.samples import Opaque, Point, signature, work
from twolane.errors import BadArguments, NotEncodable

if TYPE_CHECKING:
    from somewhere import Unresolvable


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


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr for you")


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
    def anything(a, b=None): ...

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
