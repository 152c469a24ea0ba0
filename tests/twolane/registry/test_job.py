"""@job: what it accepts, and what it refuses."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import twolane
from tests.twolane.registry.samples import _copy, computes, defined, described, waits
from twolane import keys
from twolane.errors import JobDefinitionError, UsageError
from twolane.registry import MARK, Backoff, job


def test_a_coroutine_function_goes_to_the_io_lane() -> None:
    made = defined(waits)

    assert (made.lane, made.queue, made.is_coroutine) == ("io", keys.IO_QUEUE, True)


def test_a_plain_function_goes_to_the_cpu_lane() -> None:
    made = defined(computes)

    assert (made.lane, made.queue, made.is_coroutine) == ("cpu", keys.CPU_QUEUE, False)


def test_a_plain_function_may_be_put_on_the_io_lane() -> None:
    made = defined(computes, lane="io")

    assert (made.lane, made.queue, made.is_coroutine) == ("io", keys.IO_QUEUE, False)


def test_a_job_stays_the_function_that_it_was() -> None:
    plain, waiting = _copy(computes), _copy(waits)

    assert job(plain) is plain
    assert job(timeout=5)(waiting) is waiting
    assert plain() == 1
    assert asyncio.run(waiting()) == 1


def test_the_package_exports_the_decorator() -> None:
    assert twolane.job is job


def test_an_option_that_is_not_given_has_its_default() -> None:
    made = defined()

    assert made.name == "waits"
    assert (made.timeout, made.retries, made.keep_result) == (300.0, 0, 3600.0)
    assert made.backoff == Backoff(base=1.0, factor=2.0, ceiling=300.0)


def test_every_option_is_taken() -> None:
    backoff = Backoff(0.5, 3, 10)

    made = defined(name="other", timeout=5, retries=3, backoff=backoff, keep_result=0)

    assert (made.name, made.timeout, made.retries) == ("other", 5.0, 3)
    assert (made.backoff, made.keep_result) == (backoff, 0.0)


def test_a_result_may_be_kept_for_good() -> None:
    assert defined(keep_result=None).keep_result is None


@pytest.mark.parametrize("base", [0, 2, 0.25])
def test_a_number_for_the_backoff_is_its_base(base: float) -> None:
    assert defined(backoff=base).backoff == Backoff(base=float(base))


def test_a_first_parameter_named_ctx_gets_the_context() -> None:
    async def with_ctx(ctx: dict[str, Any], a: int) -> None: ...
    async def without(a: int, ctx: int) -> None: ...
    async def nothing() -> None: ...

    assert [described(job(one)).wants_ctx for one in (with_ctx, without, nothing)] == [
        True,
        False,
        False,
    ]


def test_a_plain_function_on_the_io_lane_may_take_ctx() -> None:
    def blocks(ctx: dict[str, Any]) -> None: ...

    assert described(job(lane="io")(blocks)).wants_ctx is True


def test_a_job_says_where_it_is_defined() -> None:
    assert defined(waits).where == f"{__name__}.waits"


# --- what @job refuses


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lane": "gpu"}, r"lane='gpu'; the lanes are 'io' and 'cpu'"),
        ({"lane": "cpu"}, r"lane='cpu' on a coroutine function.*make it a plain `def`"),
        ({"timeout": 0}, r"timeout=0; it must be more than 0 seconds"),
        ({"timeout": -1}, r"timeout=-1;"),
        ({"timeout": float("nan")}, r"timeout=nan;"),
        ({"timeout": "5"}, r"timeout='5';"),
        ({"retries": -1}, r"retries=-1; it must be 0 or more"),
        ({"retries": 1.5}, r"retries=1.5;"),
        ({"keep_result": -0.1}, r"keep_result=-0.1; it must be 0 or more, or None"),
        ({"keep_result": float("nan")}, r"keep_result=nan;"),
        ({"keep_result": float("inf")}, r"keep_result=inf;"),
        ({"backoff": -1}, r"backoff=.*base and ceiling ≥ 0, factor ≥ 1"),
        ({"backoff": float("nan")}, r"backoff="),
        ({"backoff": "soon"}, r"backoff="),
        ({"backoff": Backoff(factor=0.5)}, r"backoff=.*factor ≥ 1"),
        ({"backoff": Backoff(ceiling=-1)}, r"backoff=.*ceiling ≥ 0"),
    ],
    ids=str,
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(JobDefinitionError, match=f"^@job on 'waits': {says}"):
        defined(waits, **options)


def generates() -> Iterator[int]:
    yield 1


async def generates_and_waits() -> Any:
    yield 1


@pytest.mark.parametrize("function", [generates, generates_and_waits])
def test_a_generator_is_no_job(function: Callable[..., Any]) -> None:
    with pytest.raises(JobDefinitionError, match="it cannot be a generator"):
        job(_copy(function))


class Called:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (3, "int"),
        (Called, "type"),
        (Called(), "Called"),
        (len, "builtin_function_or_method"),
        (functools.partial(computes), "partial"),
    ],
)
def test_only_a_function_is_a_job(thing: Any, kind: str) -> None:
    with pytest.raises(JobDefinitionError, match=f"a job is a function, not {kind}$"):
        job(thing)


def test_a_cpu_job_gets_no_context() -> None:
    def with_ctx(ctx: dict[str, Any]) -> None: ...

    with pytest.raises(JobDefinitionError, match=r"'ctx' on a CPU job.*pass what it needs"):
        job(with_ctx)


def test_a_refused_function_is_not_marked() -> None:
    function = _copy(waits)

    with pytest.raises(JobDefinitionError):
        job(timeout=0)(function)

    assert not hasattr(function, MARK)


def test_a_definition_error_is_a_usage_error() -> None:
    assert issubclass(JobDefinitionError, UsageError)
