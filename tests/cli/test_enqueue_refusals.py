"""Enqueueing from the command line: what is bad is one clear line, and nothing was enqueued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, SAMPLES, Run
from tests.cli.refusals import GOOD, assert_refused, write

MODULES = {
    "broken_jobs.py": "raise RuntimeError('over\\ntwo lines')",
    "leaving_jobs.py": "import sys; sys.exit(0)",
    "no_jobs.py": "x = 1",
    "wrong_jobs.py": "from twolane import job\n@job(timeout=0)\ndef one(): ...",
}


AllRefused = Callable[[list[str], str | bytes, list[str]], None]


@pytest.fixture
def assert_all_refused(twolane: Run, is_empty: Callable[[], bool], tmp_path: Path) -> AllRefused:
    """Enqueue from a file: a line of refusal with all these words, and an empty queue after it."""

    def assert_it(command: list[str], content: str | bytes, words: list[str]) -> None:
        source = write(tmp_path / "source", content)
        assert_refused(twolane("enqueue", *command, source), 2, *words)
        assert is_empty()

    return assert_it


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["primes", "--below", "1"], ["--below", "2<=x"]),
        (["primes", "--below", "ten"], ["--below", "'ten'"]),
        (["primes", "--chunks", "0"], ["--chunks", "x<=1000000"]),
        (["primes", "--method", "guess"], ["--method", "'guess'"]),
        (["primes", "--run", "a b"], ["run name 'a b'", "letters, digits"]),
        (["primes", "--run", ""], ["run name ''"]),
        (["primes", "--timeout", "soon"], ["--timeout", "not a duration"]),
        (["fetch", "--url", "ftp://host/file"], ["'url'", "ftp://host/file"]),
        (["fetch", "--url", "file:///etc/passwd"], ["'url'"]),
        (["fetch", "--url", "host"], ["'url'"]),
        (["fetch", "--count", "0"], ["--count"]),
        (["fetch", "--urls", "/no/such/file"], ["--urls", "No such file"]),
        (["query", "--rows", "0"], ["'rows'", "got 0"]),
        (["query", "--rows", "100_001"], ["'rows'", "100001"]),
        (["read"], ["--glob"]),
        (["read", "--glob", "no/such/*.file"], ["matches no file"]),
        (["read", "--glob", "/etc/passwd"], ["/etc/passwd: outside", "--files-root"]),
        (["job"], ["NAME"]),
        (["job", "nope"], ["unknown job 'nope'", "known: count_primes", "--jobs"]),
        (["job", "count_primes"], ["missing", "'low'", "count_primes(low: int"]),
        (["job", "count_primes", "low=0", "high=x"], ["'high'", "got 'x'", "int"]),
        (["job", "count_primes", "low=0", "high=5", "z=1"], ["'z'"]),
        (["job", "count_primes", "low=0", "high"], ["'high' is not KEY=VALUE"]),
        (["job", "count_primes", "=5"], ["'=5' is not KEY=VALUE"]),
        (["job", "count_primes", "--args", "{"], ["--args is not JSON", "character"]),
        (["job", "count_primes", "--args", "[1]"], ["--args is an array", "expected an object"]),
        (["job", "count_primes", "--args", "{}", "low=1"], ["not both"]),
        (["job", "echo", SAMPLES, f"value={2**70}"], ["'value'", "beyond 64 bits"]),
        (["job", "one", "--jobs", "no.such.module"], ["--jobs no.such.module", "No module named"]),
        (["job", "one", "--jobs", "broken_jobs"], ["--jobs broken_jobs", "over two lines"]),
        (["job", "one", "--jobs", "leaving_jobs"], ["--jobs leaving_jobs"]),
        (["job", "one", "--jobs", "no_jobs"], ["no_jobs", "holds no job"]),
        (["job", "one", "--jobs", "wrong_jobs"], ["wrong_jobs", "timeout=0"]),
        (["file", "/no/such/file"], ["No such file"]),
        (["file", "/"], ["Is a directory"]),
        (["mixed", "--fetches", "-1"], ["--fetches"]),
        (["mixed", "--rows", "0"], ["'rows'"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line_and_nothing_is_enqueued(
    twolane: Run,
    is_empty: Callable[[], bool],
    tmp_path: Path,
    args: list[str],
    words: list[str],
) -> None:
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    with_samples = {"PYTHONPATH": str(ROOT)} if SAMPLES in args else {}

    ended = twolane("enqueue", *args, cwd=tmp_path, **with_samples)

    assert_refused(ended, 2, *words)
    assert is_empty()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD + "not json\n", ["line 2: it is not JSON", "nothing was enqueued", "--skip-bad"]),
        (GOOD + "\n\n[1]\n", ["line 4: it is an array"]),
        (GOOD + '"text"\n' * 2, ["line 2: it is a string", "and 1 more bad line)"]),
        (GOOD + "null\n", ["line 2: it is null"]),
        (GOOD + '{"args": {}}\n', ['line 2: it has no "job"']),
        (GOOD + '{"job": 5}\n', ["line 2"]),
        (GOOD + '{"job": "query", "argz": {}}\n', ["line 2: it has 'argz'"]),
        (GOOD + '{"job": "query", "args": [1]}\n', ['line 2: "args" is an array']),
        (GOOD + '{"job": "query", "args": {"rows": "1"}}\n', ["line 2: job 'query'", "'rows'"]),
        (GOOD + '{"job": "nope"}\n', ["line 2: unknown job 'nope'"]),
        (GOOD + '{"job": "query", "args": {"rows": 1' + "0" * 5000 + "}}\n", ["line 2"]),
        (GOOD + "[" * 100_000 + "\n", ["line 2: it is nested too deeply"]),
        (GOOD.encode() + b"\xff\xfe\x00binary\n", ["line 2: not UTF-8 text", "--skip-bad"]),
        (GOOD + "\0\n", ["line 2: it is not JSON"]),
        ("", ["nothing to enqueue"]),
        ("\n  \n", ["nothing to enqueue"]),
    ],
    ids=range(16),
)
def test_a_bad_file_names_its_line_and_nothing_is_enqueued(
    assert_all_refused: AllRefused, content: str | bytes, words: list[str]
) -> None:
    assert_all_refused(["file"], content, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", ["not UTF-8 text"]),
        ("", ["nothing to enqueue"]),
        ("http://host/\nftp://host/\n", ["line 2:", "ftp://host/"]),
    ],
)
def test_a_bad_list_of_urls_is_refused_whole(
    assert_all_refused: AllRefused, content: str | bytes, words: list[str]
) -> None:
    assert_all_refused(["fetch", "--urls"], content, words)


def test_a_link_out_of_the_roots_is_refused(
    twolane: Run, is_empty: Callable[[], bool], tmp_path: Path
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "inside" / "link.txt").symlink_to(tmp_path / "secret.txt")

    ended = twolane("enqueue", "read", "--glob", "*.txt", cwd=tmp_path / "inside")

    assert_refused(ended, 2, "link.txt: outside")
    assert is_empty()


def test_a_run_name_that_is_taken_is_refused(twolane: Run) -> None:
    assert twolane("enqueue", "query", "--run", "mine").code == 0

    assert_refused(twolane("enqueue", "query", "--run", "mine"), 2, "'mine' exists", "--run")

    assert json.loads(twolane("runs", "--json").out)[0]["total"] == 1
