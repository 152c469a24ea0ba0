"""What ``scripts/arq-suite`` makes of two runs of arq's tests; the runs themselves need arq's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"

REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite>
<testcase classname="tests.test_worker" name="test_good" />
<testcase classname="tests.test_worker" name="test_bad[1]"><failure>y</failure></testcase>
<testcase classname="tests.test_worker" name="test_left_out"><skipped /></testcase>
<testcase classname="tests.test_cli" name="test_unclean" />
<testcase classname="tests.test_cli" name="test_unclean"><error message="x">y</error></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def suite() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    try:
        from arq_suite import __main__ as module

        yield module
    finally:
        sys.path.remove(str(SCRIPTS))


def test_outcomes_are_read_from_pytest_s_report(suite: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)

    assert suite.read(report) == {
        "tests/test_worker.py::test_good": "passed",
        "tests/test_worker.py::test_bad[1]": "failed",
        "tests/test_worker.py::test_left_out": "skipped",
        "tests/test_cli.py::test_unclean": "error",
    }
    assert suite.read(tmp_path / "none.xml") == {}


def test_a_test_that_one_of_the_workers_did_not_run_differs(suite: ModuleType) -> None:
    theirs = {"a": "passed", "b": "passed", "c": "failed", "d": "passed"}
    ours = {"a": "passed", "b": "failed", "c": "failed", "e": "passed"}

    assert suite.differing({"arq": theirs, "twolane": ours}) == ["b", "d", "e"]


def test_one_that_differs_once_is_run_again(
    suite: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, list[str]]] = []

    def run(directory: Path, worker: str, broker: str, selection: list[str]) -> dict[str, str]:
        runs.append((worker, selection))
        if selection:
            return {selection[0]: "passed"}
        return {"a": "passed", "b": "failed" if worker == "twolane" else "passed"}

    monkeypatch.setattr(suite, "run", run)

    by_worker = suite.compare(Path(), "redis://", [])

    assert suite.differing(by_worker) == []
    assert runs == [("arq", []), ("twolane", []), ("arq", ["b"]), ("twolane", ["b"])]


def test_the_document_names_every_test_that_may_differ(suite: ModuleType) -> None:
    document = (ROOT / "docs" / "arq.md").read_text(encoding="utf-8")

    for name, reason in suite.excepted().items():
        assert name in document
        assert reason


def test_it_is_locked_to_the_arq_that_we_are_made_for() -> None:
    locks = [
        (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8"),
        (SCRIPTS / "arq_suite" / "requirements.txt").read_text(encoding="utf-8"),
    ]

    versions = [
        line.split("==")[1].split()[0]
        for lock in locks
        for line in lock.splitlines()
        if line.startswith("arq==")
    ]

    assert len(versions) == 2
    assert len(set(versions)) == 1
