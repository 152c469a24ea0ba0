"""The examples do what their heads say, as their heads say to do it."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Ended
from tests.cli.started import Started

EXAMPLES = ROOT / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def documented(name: str) -> list[list[str]]:
    """The commands that an example's docstring shows after ``$``."""
    head = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))) or ""
    lines = [line.strip() for line in head.splitlines()]
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


def run(words: list[str]) -> Ended:
    command = {"twolane": [sys.executable, "-m", "twolane"], "python": [sys.executable]}[words[0]]
    ended = subprocess.run(
        [*command, *words[1:]], cwd=EXAMPLES, capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[str]:
    """The example's name, with the first of its commands running: broker and workers."""
    name: str = request.param
    first = documented(name)[0]
    assert first[:2] == ["twolane", "up"]
    up = Started(*first[1:], "--grace=1", cwd=EXAMPLES)
    try:
        up.wait_said("ready at")
        up.look()
        yield name
        up.interrupt()
        assert up.end() == 0
    finally:
        up.clean()


def test_there_are_examples_and_each_says_how_to_run_it() -> None:
    assert NAMES == ["enqueue_from_python.py", "my_jobs.py", "with_arq_client.py"]
    for name in NAMES:
        assert len(documented(name)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("started", NAMES, indirect=True)
def test_each_command_of_an_example_works(started: str) -> None:
    said = ""

    for words in documented(started)[1:]:
        code, out, err = run(words)
        assert code == 0, err
        said += out

    for expected in EXPECTED[started]:
        assert expected in said


EXPECTED = {
    "my_jobs.py": ["greet(name: str)", "200 of 200 jobs", "20 of 20 jobs", "addresses"],
    "enqueue_from_python.py": [
        "refused: job 'collatz': parameter 'start': got 'one'",
        "102 jobs",
        "102 of 102 jobs have settled",
        "hello, Ada",
        "hello, Grace",
        "that of 97: 118 steps",
    ],
    "with_arq_client.py": ["hello, Ada", "27 takes 111 steps", "failed: TypeError"],
}


def test_jobs_stay_plain_functions_that_can_be_called() -> None:
    code = "import my_jobs; print(my_jobs.collatz(27))"

    out = subprocess.check_output([sys.executable, "-c", code], cwd=EXAMPLES, text=True)

    assert out == "111\n"


def test_no_example_is_left_out_of_the_expectations() -> None:
    assert sorted(EXPECTED) == NAMES
    assert all(Path(EXAMPLES / name).is_file() for name in NAMES)
