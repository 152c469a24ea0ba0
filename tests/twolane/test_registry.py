"""@job: what it accepts, what it refuses; registries: what they find in modules."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twolane
from twolane import keys
from twolane.errors import JobDefinitionError, UnknownJob, UsageError
from twolane.registry import MARK, SHIPPED_JOBS, Backoff, Job, Registry, job

stable = settings(derandomize=True, deadline=None, database=None)


def computes() -> int:
    return 1


async def waits() -> int:
    return 1


def described(function: Callable[..., Any]) -> Job:
    found = getattr(function, MARK)
    assert isinstance(found, Job)
    return found


def defined(function: Callable[..., Any] = waits, **options: Any) -> Job:
    """What @job makes of a function with those options."""
    copy = functools.partial(job(**options))
    return described(copy(_copy(function)))


def _copy(function: Any) -> Any:
    made = type(function)(
        function.__code__, globals(), function.__name__, function.__defaults__, function.__closure__
    )
    made.__module__ = function.__module__
    made.__qualname__ = function.__qualname__
    return made


Modules = Callable[..., str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    """Writes a module that can be imported for the length of a test; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, *lines: str) -> str:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["from twolane import job", *lines, ""]))
        return name

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# --- what @job makes


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


# --- backoff

numbers = st.floats(0, 1e6, allow_subnormal=False)
backoffs = st.builds(Backoff, base=numbers, factor=st.floats(1, 1e4), ceiling=numbers)
draws = st.floats(0, 1, exclude_max=True)
tries = st.integers(1, 10_000)


@stable
@given(backoffs, tries, draws)
def test_a_wait_is_in_the_upper_half_of_its_step(
    backoff: Backoff, failed: int, draw: float
) -> None:
    step = backoff.seconds(failed, 0.0) * 2

    wait = backoff.seconds(failed, draw)

    assert step / 2 <= wait <= step <= backoff.ceiling


@stable
@given(backoffs, tries, draws)
def test_a_later_try_waits_no_less(backoff: Backoff, failed: int, draw: float) -> None:
    assert backoff.seconds(failed, draw) <= backoff.seconds(failed + 1, draw)


@stable
@given(backoffs, tries, draws, draws)
def test_the_wait_grows_with_the_draw(backoff: Backoff, failed: int, a: float, b: float) -> None:
    low, high = sorted((a, b))

    assert backoff.seconds(failed, low) <= backoff.seconds(failed, high)


def test_the_default_steps_double_up_to_five_minutes() -> None:
    steps = [Backoff().seconds(failed, 0.0) * 2 for failed in range(1, 12)]

    assert steps == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_backoff_of_nothing_never_waits() -> None:
    assert [Backoff(base=0).seconds(failed, 0.5) for failed in (1, 2, 100, 10_000)] == [0] * 4


def test_a_steep_backoff_stops_at_its_ceiling_instead_of_overflowing() -> None:
    assert Backoff(base=1e300, factor=1e10).seconds(100, 0.0) == 150.0


# --- registries


def test_the_jobs_of_a_module_are_found_by_name(module: Modules) -> None:
    name = module(
        "some_jobs",
        "@job",
        "def counts(): ...",
        "@job(name='renamed')",
        "async def waits(): ...",
        "def no_job(): ...",
    )

    registry = Registry.load([name])

    assert sorted(one.name for one in registry) == ["counts", "renamed"]
    assert len(registry) == 2
    assert "counts" in registry
    assert "waits" not in registry
    assert registry["renamed"].where == "some_jobs.waits"
    assert [one.name for one in registry.of_lane("io")] == ["renamed"]
    assert [one.name for one in registry.of_lane("cpu")] == ["counts"]
    assert registry.modules == ("some_jobs",)


def test_an_unknown_job_is_an_error_that_names_the_known_ones() -> None:
    registry = Registry([defined(computes), defined(waits)])

    with pytest.raises(UnknownJob, match=r"unknown job 'other'; known: computes, waits\. Name"):
        registry["other"]
    assert registry.get("other") is None


def test_an_empty_registry_says_that_it_knows_none() -> None:
    with pytest.raises(UnknownJob, match="known: none"):
        Registry()["other"]


def test_two_functions_of_one_name_are_refused(module: Modules) -> None:
    module("first_jobs", "@job", "def counts(): ...")
    module("second_jobs", "@job(name='counts')", "def other(): ...")

    with pytest.raises(
        JobDefinitionError,
        match=r"two jobs are named 'counts': first_jobs.counts and second_jobs.other; "
        r"give one a name of its own: @job\(name=…\)",
    ):
        Registry.load(["first_jobs", "second_jobs"])


def test_a_module_that_is_named_twice_is_loaded_once(module: Modules) -> None:
    name = module("some_jobs", "@job", "def counts(): ...")

    registry = Registry.load([name, name])

    assert (len(registry), registry.modules) == (1, (name,))


def test_a_job_that_another_module_exports_again_is_one_job(module: Modules) -> None:
    module("inner_jobs", "@job", "def counts(): ...")
    module("outer_jobs", "from inner_jobs import counts")

    registry = Registry.load(["outer_jobs", "inner_jobs"])

    assert [one.where for one in registry] == ["inner_jobs.counts"]


def test_a_job_under_two_names_in_its_module_is_one_job(module: Modules) -> None:
    module("some_jobs", "@job", "def counts(): ...", "alias = counts")

    assert [one.name for one in Registry.load(["some_jobs"])] == ["counts"]


def test_a_package_that_gathers_jobs_is_a_module_of_jobs(module: Modules) -> None:
    module("app_jobs.counting", "@job", "def counts(): ...")
    module("app_jobs.__init__", "from app_jobs.counting import counts")

    assert [one.where for one in Registry.load(["app_jobs"])] == ["app_jobs.counting.counts"]


def test_a_function_that_wraps_a_job_is_not_the_job(module: Modules) -> None:
    # functools.wraps copies the mark along with the rest of __dict__.
    module(
        "some_jobs",
        "import functools",
        "@job",
        "def counts(): ...",
        "@functools.wraps(counts)",
        "def wrapper(): ...",
    )

    assert [one.function.__code__.co_name for one in Registry.load(["some_jobs"])] == ["counts"]


def test_a_module_without_jobs_is_refused(module: Modules) -> None:
    name = module("no_jobs", "def counts(): ...")

    with pytest.raises(JobDefinitionError, match=r"--jobs no_jobs: it holds no job; mark a func"):
        Registry.load([name])


def test_a_module_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        JobDefinitionError,
        match=r"--jobs not\.there: cannot be imported: ModuleNotFoundError: No module named 'not'",
    ):
        Registry.load(["not.there"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError: "),
        ("import not_there_either", "ModuleNotFoundError: "),
        ("job(timeout=0)(lambda: 1)", "JobDefinitionError: @job on '<lambda>': timeout=0"),
    ],
)
def test_a_module_that_fails_to_import_is_refused(module: Modules, line: str, says: str) -> None:
    name = module("broken_jobs", line)

    with pytest.raises(JobDefinitionError, match=f"--jobs broken_jobs: cannot be imported: {says}"):
        Registry.load([name])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "--jobs '': it is empty; give a module's name"),
        (" ", "--jobs ' ': it is empty; give a module's name"),
        (".", "--jobs .: a relative name; give the module's whole name"),
        ("..jobs", "--jobs ..jobs: a relative name; give the module's whole name"),
        (".jobs", "--jobs .jobs: a relative name; give the module's whole name"),
    ],
)
def test_a_name_that_is_no_modules_is_refused(name: str, says: str) -> None:
    with pytest.raises(JobDefinitionError, match=re.escape(says)):
        Registry.load([name])


@pytest.mark.parametrize(
    ("path", "module_name"),
    [
        ("mine.py", "mine"),
        ("./mine.py", "mine"),
        ("app/mine.py", "mine"),
        ("/app/mine", "mine"),
        ("app/", "app"),
        ("app/__init__.py", "app"),
        ("../", "mine"),
        ("/", "mine"),
        (".py", "mine"),
    ],
)
def test_a_path_is_refused_with_the_modules_name(path: str, module_name: str) -> None:
    says = f"give the module's name: --jobs {module_name}, from the folder that holds it"

    with pytest.raises(JobDefinitionError, match=re.escape(f"--jobs {path}: ") + f".*{says}"):
        Registry.load([path])


def test_the_hooks_of_a_module_are_collected(module: Modules) -> None:
    name = module(
        "some_jobs",
        "@job",
        "async def waits(): ...",
        "async def on_startup(ctx): ...",
        "def on_shutdown(ctx): ...",
    )

    registry = Registry.load([name])

    home = sys.modules[name]
    assert registry.startup_hooks == [home.on_startup]
    assert registry.shutdown_hooks == [home.on_shutdown]


def test_a_hook_is_found_where_the_job_is_defined_and_kept_once(module: Modules) -> None:
    module("inner_jobs", "@job", "async def waits(): ...", "def on_startup(ctx): ...")
    module("outer_jobs", "from inner_jobs import waits, on_startup", "def on_shutdown(ctx): ...")

    registry = Registry.load(["outer_jobs", "inner_jobs"])

    assert registry.startup_hooks == [sys.modules["inner_jobs"].on_startup]
    assert registry.shutdown_hooks == [sys.modules["outer_jobs"].on_shutdown]


def test_a_hook_that_cannot_be_called_is_none(module: Modules) -> None:
    name = module("some_jobs", "@job", "async def waits(): ...", "on_startup = 3")

    assert Registry.load([name]).startup_hooks == []


def test_the_shipped_jobs_load() -> None:
    registry = Registry.load([SHIPPED_JOBS])

    assert registry.of_lane("io")
    assert registry.of_lane("cpu")
