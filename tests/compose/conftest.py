"""One project for all tests of the compose file; a failing test shows its containers' logs."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.project import Project, free_port

PROJECT = pytest.StashKey[Project]()
SETTINGS: dict[str, object] = {
    "VALKEY_PASSWORD": "of-the-tests_1",
    "TARGET_LATENCY": "40ms",
    "IO_CONCURRENCY": 10,
    "CPU_WORKER_CPUS": 2,
    "VALKEY_APPENDFSYNC": "always",
}


@pytest.fixture(scope="session")
def settings() -> dict[str, object]:
    """What stands in the .env file: a password of one server, the other's is made at random."""
    return {**SETTINGS, "TARGET_PORT": free_port()}


@pytest.fixture(scope="session")
def project(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    settings: dict[str, object],
) -> Iterator[Project]:
    """The whole file, built and healthy; in the end nothing is left of it."""
    folder: Path = tmp_path_factory.mktemp("compose")
    made = Project(f"twolane-test-{os.getpid()}", folder / "env")
    made.set(**settings)
    request.config.stash[PROJECT] = made
    try:
        made.up("--build")
        yield made
    finally:
        made.tear_down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    report = yield
    project = item.config.stash.get(PROJECT, None)
    if report.failed and project is not None and report.when != "teardown":
        report.sections.append(("docker compose ps", project.compose("ps", "--all", ok=()).out))
        report.sections.append(("docker compose logs", project.logs()))
    return report
