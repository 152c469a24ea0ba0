"""Registries: what they find in modules."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.twolane.registry.samples import computes, defined, waits
from twolane.errors import JobDefinitionError, UnknownJob
from twolane.registry import SHIPPED_JOBS, Registry

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
