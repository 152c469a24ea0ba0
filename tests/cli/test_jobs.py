"""``jobs``: what can be enqueued, and how."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import ROOT, SAMPLES, run_command


def test_the_jobs_that_ship_are_listed_by_lane() -> None:
    code, out, err = run_command("jobs")

    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["io"] * 3 + ["cpu"] * 2
    assert "count_primes(low: int, high: int, method: 'sieve' or 'trial' = 'sieve')" in out
    assert "``" not in out


def test_jobs_as_json() -> None:
    found = {one["name"]: one for one in json.loads(run_command("jobs", "--json").out)}

    assert set(found) == {"fetch", "query", "read_file", "count_primes", "find_primes"}
    assert set(found["fetch"]) == {
        "name", "lane", "module", "signature", "timeout", "retries", "keep_result", "help",
    }  # fmt: skip
    assert found["read_file"]["lane"] == "io"
    assert found["count_primes"]["lane"] == "cpu"


def test_jobs_of_ones_own_replace_them_or_stand_beside_them() -> None:
    own = json.loads(run_command("jobs", SAMPLES, "--json").out)
    both = json.loads(run_command("jobs", SAMPLES, "--jobs=twolane.jobs", "--json").out)
    by_variable = json.loads(
        run_command("jobs", "--json", TWOLANE_JOBS="tests.cli.sample_jobs twolane.jobs").out
    )

    assert "echo" in {one["name"] for one in own}
    assert "fetch" not in {one["name"] for one in own}
    assert {one["name"] for one in both} == {one["name"] for one in by_variable}
    assert len(both) == len(own) + 5


def test_a_module_of_the_current_folder_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from twolane import job\n@job\ndef one(n: int): ...\n")

    code, out, _ = run_command("jobs", "--jobs", "mine", cwd=tmp_path, PYTHONPATH=str(ROOT))

    assert code == 0
    assert "one(n: int)" in out


def test_two_jobs_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("from twolane import job\n@job\ndef same(): ...\n")

    code, out, err = run_command(
        "jobs", "--jobs=one", "--jobs=two", cwd=tmp_path, PYTHONPATH=str(ROOT)
    )

    assert (code, out) == (2, "")
    assert "two jobs are named 'same': one.same and two.same" in err
