"""The command line as a person has it: ``python -m twolane`` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests.conftest import wait_until
from twolane import fleet
from twolane.broker import connect, connect_blocking

ROOT = Path(__file__).parents[2]
SAMPLES = "--jobs=tests.cli.sample_jobs"
COMMAND = (sys.executable, "-m", "twolane")


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(
        self, *args: str, stdin: str | bytes = ..., cwd: Path = ..., **variables: str
    ) -> Ended: ...


def run_command(*args: str, stdin: str | bytes = b"", cwd: Path = ROOT, **variables: str) -> Ended:
    ended = subprocess.run(
        [*COMMAND, *args],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **variables},
        timeout=100,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@pytest.fixture
def twolane(broker: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command to its end, with an empty broker of the tests as its own."""
    monkeypatch.setenv("TWOLANE_BROKER", broker)
    return run_command


@pytest.fixture
def is_empty(broker: str) -> Callable[[], bool]:
    """Whether nothing at all is in the broker."""

    def look() -> bool:
        with contextlib.closing(connect_blocking(broker)) as client:
            return client.dbsize() == 0

    return look


class Background:
    """A command that goes on until it is told to stop.

    Its standard input is a pipe of ours and it is given ``--with-parent`` where it is a worker, so
    that it ends also when the tests are killed.
    """

    def __init__(self, *args: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **variables},
            start_new_session=True,
        )

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def background() -> Iterator[Callable[..., Background]]:
    started: list[Background] = []

    def start(*args: str, **variables: str) -> Background:
        started.append(Background(*args, **variables))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def start_worker(
    twolane: Run, broker: str, background: Callable[..., Background]
) -> Callable[..., object]:
    """Start a worker of a lane and wait until it is ready."""

    async def start(lane: str, *options: str) -> Background:
        made = background(
            "worker", lane, SAMPLES, "--jobs=twolane.jobs", "--log-level=warning",
            "--grace=1", *options, "--with-parent",
        )  # fmt: skip
        client = connect(broker)

        async def is_ready() -> bool:
            assert made.process.poll() is None, "the worker ended early"
            return any(beat.pid == made.process.pid for beat in await fleet.workers(client))

        try:
            await wait_until(is_ready, f"a {lane} worker")
        finally:
            await client.aclose()
        return made

    return start
