"""``python -m arq_suite DIR``: what scripts/arq-suite runs in its environment."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from benchmarks.server import Server

HERE: Final = Path(__file__).parent
WORKERS: Final = ("arq", "twolane")
# Tests that sleep for a tenth of a second and then look may fail on a busy machine, with either
# worker: one that differs is run again, alone, and counts when it differs each time.
AGAIN: Final = 2
# arq's tests turn warnings into errors, and are made for redis-py 4.6: with 5, `close` is
# deprecated, and what they leave open is reported when it is collected. The same for both workers.
IGNORED: Final = (
    "ignore:Call to deprecated close:DeprecationWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
Outcomes = dict[str, str]


def run(directory: Path, worker: str, broker: str, selection: list[str]) -> Outcomes:
    """Run arq's tests with one worker; every test's outcome by its id."""
    paths = (str(directory), os.environ["PYTHONPATH"])
    environ = {
        **os.environ,
        "ARQ_SUITE_WORKER": worker,
        "ARQ_SUITE_BROKER": broker,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        done = subprocess.run(
            [
                sys.executable, "-P", "-m", "pytest", "-p", "arq_suite.plugin", "-q", "--tb=short",
                "-p", "no:cacheprovider", "-p", "no:pretty", f"--junitxml={report}",
                *(word for one in IGNORED for word in ("-W", one)), *selection,
            ],
            cwd=directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        outcomes = read(report)
    if done.returncode not in (0, 1) or not outcomes:
        raise SystemExit(f"arq's tests did not run with the worker of {worker}:\n{done.stdout}")
    if done.returncode:
        print(f"--- what pytest said, with the worker of {worker}\n{done.stdout}", file=sys.stderr)
    return outcomes


def read(report: Path) -> Outcomes:
    """The outcomes in a JUnit report: ``passed``, ``failed``, ``error`` or ``skipped``."""
    if not report.exists():
        return {}
    found: Outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        path = case.get("classname", "").replace(".", "/")
        marks = {child.tag for child in case}
        name = f"{path}.py::{case.get('name')}"
        kinds = {"failure": "failed", "error": "error", "skipped": "skipped"}
        outcome = next((text for tag, text in kinds.items() if tag in marks), "passed")
        # A test whose teardown fails is reported twice.
        found[name] = outcome if found.get(name, "passed") == "passed" else found[name]
    return found


def excepted() -> dict[str, str]:
    """The tests in which the workers may differ, with the reasons."""
    lines = (HERE / "excepted.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {name: reason.strip() for name, _, reason in pairs}


def differing(by_worker: dict[str, Outcomes]) -> list[str]:
    theirs, ours = (by_worker[worker] for worker in WORKERS)
    names = list(dict.fromkeys([*theirs, *ours]))
    return [name for name in names if theirs.get(name) != ours.get(name)]


def compare(directory: Path, broker: str, selection: list[str]) -> dict[str, Outcomes]:
    by_worker: dict[str, Outcomes] = {}
    for worker in WORKERS:
        print(f"running arq's tests with the worker of {worker} …", file=sys.stderr)
        by_worker[worker] = run(directory, worker, broker, selection)
    for _ in range(AGAIN):
        again = [name for name in differing(by_worker) if name not in excepted()]
        if not again:
            break
        print(f"running again, alone: {' '.join(again)}", file=sys.stderr)
        for worker in WORKERS:
            for name in again:
                by_worker[worker] |= run(directory, worker, broker, [name])
    return by_worker


def version(directory: Path) -> str:
    asked = "import arq; print(arq.VERSION)"
    environ = {**os.environ, "PYTHONPATH": str(directory)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", asked], env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def table(by_worker: dict[str, Outcomes]) -> str:
    kinds = ("passed", "failed", "error", "skipped")
    lines = [f"{'worker':10}{'tests':>8}" + "".join(f"{kind:>9}" for kind in kinds)]
    for worker in WORKERS:
        counts = Counter(by_worker[worker].values())
        cells = "".join(f"{counts[kind]:>9}" for kind in kinds)
        lines.append(f"{worker:10}{len(by_worker[worker]):>8}{cells}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/arq-suite")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("-k", metavar="EXPRESSION")
    options = parser.parse_args()
    directory = options.directory.resolve()
    if not (directory / "tests" / "test_worker.py").is_file():
        parser.error(f"{options.directory} is no checkout of arq: it has no tests/test_worker.py")
    selection = ["-k", options.k] if options.k else []
    with Server() as server:
        by_worker = compare(directory, server.url, selection)
        server_version = server.version
    reasons = excepted()
    differ = differing(by_worker)
    unexpected = [name for name in differ if name not in reasons]
    if options.as_json:
        told = {"arq": version(directory), "outcomes": by_worker, "unexpected": unexpected}
        print(json.dumps(told, indent=2))
        return 1 if unexpected else 0
    import redis

    python = ".".join(map(str, sys.version_info[:3]))
    print(
        f"arq {version(directory)}, Python {python}, redis-py {redis.__version__}, "
        f"Valkey {server_version}\n\n{table(by_worker)}\n"
    )
    for name in differ:
        theirs, ours = (by_worker[worker].get(name, "not run") for worker in WORKERS)
        print(f"{name}: {theirs} with arq's, {ours} with ours: {reasons.get(name, 'unexpected')}")
    if not differ:
        print("No test differs.")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
