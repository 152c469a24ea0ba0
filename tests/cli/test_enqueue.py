"""Enqueueing from the command line: from lines of a file, from standard input, from options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.refusals import GOOD, write


def test_good_lines_are_enqueued_where_bad_ones_are_skipped(twolane: Run, tmp_path: Path) -> None:
    bad = "".join(f"bad {number}\n" for number in range(12))
    source = write(tmp_path / "jobs.jsonl", GOOD + bad + GOOD)

    code, out, err = twolane("enqueue", "file", source, "--skip-bad", "--run", "kept")

    assert (code, out) == (0, "kept\n")
    assert err.splitlines()[0].startswith("skipped line 2: it is not JSON")
    assert "skipped 2 more bad lines" in err
    assert "2 jobs enqueued" in err


@pytest.mark.parametrize("source", ["FILE", "-"])
def test_a_line_that_is_not_utf_8_is_a_bad_line_like_others(
    twolane: Run, tmp_path: Path, source: str
) -> None:
    content = b"\xef\xbb\xbf" + GOOD.encode() + b'{"job": "caf\xe9"}\r\n' + GOOD.encode()
    path = write(tmp_path / "jobs.jsonl", content) if source == "FILE" else "-"

    ended = twolane("enqueue", "file", path, "--skip-bad", "--json", stdin=content)

    assert ended.err == "skipped line 2: not UTF-8 text\n"
    assert json.loads(ended.out)["jobs"] == 2


def test_a_byte_order_mark_is_passed_over(twolane: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "jobs.jsonl", b"\xef\xbb\xbf" + GOOD.encode())

    assert twolane("enqueue", "file", source).code == 0


def test_jobs_are_read_from_standard_input(twolane: Run) -> None:
    code, out, _ = twolane("enqueue", "file", "-", "--json", "--run", "piped", stdin=GOOD * 3)

    assert code == 0
    assert json.loads(out) == {"run": "piped", "jobs": 3}


def test_the_runs_name_is_the_data_and_the_rest_a_message(twolane: Run) -> None:
    code, out, err = twolane("enqueue", "primes", "--below", "1_000", "--chunks", "4")

    assert code == 0
    (name,) = out.split()
    assert name.startswith("primes-")
    assert err == f"4 jobs enqueued; follow the run: twolane runs show {name} --wait\n"


def test_a_range_is_never_split_into_more_jobs_than_numbers(twolane: Run) -> None:
    _, out, _ = twolane("enqueue", "primes", "--below", "3", "--chunks", "100", "--json")

    assert json.loads(out)["jobs"] == 3
