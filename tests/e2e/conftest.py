"""Workers as real processes, which are sure to end, and whose logs a failing test shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from twolane import fleet
from twolane.fleet import Heartbeat
from twolane.keys import Lane
from twolane.registry import Registry

ROOT = Path(__file__).parents[2]
MODULE = "tests.e2e.e2e_jobs"


class WorkerProcess:
    """``python -m worker``, in a process group of its own, its log in a file.

    It drains when this process ends, however that ends: its standard input is a pipe from here.
    """

    def __init__(
        self, lane: Lane, options: tuple[str, ...], broker: str, log: Path, modules: Path
    ) -> None:
        self._log = log
        environ = {**os.environ, "TWOLANE_BROKER": broker, "PYTHONPATH": f"{modules}:{ROOT}"}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", lane, "--with-parent", *options],
                stdin=subprocess.PIPE, stdout=file, stderr=file, env=environ, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def send(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)

    async def wait(self, seconds: float = 15) -> int:
        """Wait for its end; its exit code."""
        return await asyncio.to_thread(self._process.wait, seconds)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def wait_logged(self, text: str) -> None:
        async def logged() -> bool:
            return text in self.log

        await wait_until(logged, f"{text!r} in the worker's log")

    async def heartbeat(self, client: Redis) -> Heartbeat:
        """Its first heartbeat, once it is there: it claims jobs then."""

        async def beat() -> Heartbeat | None:
            return next((one for one in await fleet.workers(client) if one.pid == self.pid), None)

        return await wait_until(beat, f"a heartbeat of worker {self.pid}")

    def end(self) -> None:
        """Kill it, if it has not ended, and every process that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.pid).children(recursive=True)
            self._process.kill()
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()  # psutil looks at the start time: never at another process's number
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        print(f"----- log of worker {self.pid}, exit code {self._process.returncode}\n{self.log}")


Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(broker: str, tmp_path: Path) -> Iterator[Start]:
    """Start workers: ``start("io", "--lease", "1")``; leases are of 1 s where nothing is said."""
    started: list[WorkerProcess] = []

    def start(
        lane: Lane, *options: str, url: str = broker, modules: tuple[str, ...] = (MODULE,)
    ) -> WorkerProcess:
        given = [*options]
        if "--lease" not in given:
            given += ["--lease", "1"]
        if lane == "cpu" and "--processes" not in given:
            given += ["--processes", "2"]
        for module in modules:
            given += ["--jobs", module]
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(WorkerProcess(lane, tuple(given), url, log, tmp_path))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load([MODULE])


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where jobs say what happened."""
    made = tmp_path / "notes"
    made.mkdir()
    return made


async def wait_noted(notes: Path, pattern: str, count: int = 1) -> list[str]:
    """Wait until so many files match; their names in order."""

    def names() -> list[str]:
        return sorted(path.name for path in notes.glob(pattern))

    async def enough() -> list[str] | None:
        found = names()
        return found if len(found) >= count else None

    return await wait_until(enough, f"{count} notes {pattern!r} in {notes}")


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
