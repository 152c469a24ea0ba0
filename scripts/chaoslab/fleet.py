"""Worker processes of a fault, each with its own log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import psutil

from chaoslab import ledger
from chaoslab.places import ROOT, SCRIPTS, die_with_parent

READY_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.02
COMMANDS: Final = {
    "io": ("worker", "io"),
    "cpu": ("worker", "cpu"),
    "arq": ("twolane", "arq", "chaoslab.arq_app.WorkerSettings"),
}
# What has to be said for the same number of slots on each lane.
SLOTS: Final = {"io": ("--concurrency", "20"), "arq": ()}
TRACEBACK: Final = "Traceback (most recent call last)"
EXCERPTS: Final = 3  # workers of a broken row whose logs are shown
EXCERPT_LINES: Final = 40
LINES_BEFORE: Final = 3  # what was said just before a traceback


def is_of_pool(process: psutil.Process) -> bool:
    """Whether it is a process of a pool; one that has just ended is not."""
    try:
        return "multiprocessing" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


class Worker:
    """A worker of a lane, ``io`` or ``cpu``, or ``arq``: the drop-in. It ends with the harness."""

    def __init__(
        self, lane: str, options: Sequence[str], url: str, log: Path, environ: dict[str, str]
    ) -> None:
        self._log = log
        self.lane = lane
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *COMMANDS[lane], *options],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT,
                env={**environ, "TWOLANE_BROKER": url}, start_new_session=True,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def excerpt(self) -> str:
        """From its first traceback on, where there is one; else the last lines of its log."""
        lines = self.log.splitlines()
        traced = [number for number, line in enumerate(lines) if TRACEBACK in line]
        begin = max(0, traced[0] - LINES_BEFORE) if traced else -EXCERPT_LINES
        head = f"{self.lane} worker {self.pid}, {len(lines)} lines, exit code {self.code}:"
        return "\n".join([head, *lines[begin:][:EXCERPT_LINES]])

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns the monotonic time of it, s."""
        self._process.send_signal(number)
        return time.monotonic()

    def family(self) -> list[psutil.Process]:
        """The processes that it has started, and theirs."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def of_pool(self) -> list[psutil.Process]:
        """Of these the ones of its pool."""
        return [one for one in self.family() if is_of_pool(one)]

    async def wait(self, seconds: float = 30.0) -> int:
        """Wait for its end; its exit code."""
        deadline = time.monotonic() + seconds
        while (code := self.code) is None:
            if time.monotonic() > deadline:
                said = self.log[-600:]
                raise TimeoutError(f"worker {self.pid} not ended in {seconds:g} s: {said}")
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def wait_logged(self, pattern: str, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.log):
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {self.pid} never said {pattern!r}: {self.log[-800:]}")
            await asyncio.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Kill it and all that it has started."""
        family = self.family()
        if self.code is None:
            self._process.kill()
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()  # psutil compares start times: never another process of that number
        self._process.wait()


class Fleet:
    """The workers of one fault, on the broker ``url`` unless another one is named."""

    def __init__(self, directory: Path, url: str, book: Path, lease: str = "1s") -> None:
        self._directory = directory
        self._url = url
        self._lease = lease
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith("TWOLANE_")
        } | {"PYTHONPATH": f"{SCRIPTS}:{ROOT}", ledger.VARIABLE: str(book)}  # fmt: skip
        self.workers: list[Worker] = []

    def launch(
        self,
        lane: str,
        *options: str,
        url: str | None = None,
        modules: Iterable[str] = ("chaoslab.jobs",),
        environ: dict[str, str] | None = None,
    ) -> Worker:
        """Start a worker; returns before it is ready."""
        given = list(options)
        if "--lease" not in given:
            given += ["--lease", self._lease]
        if lane == "cpu" and "--processes" not in given:
            given += ["--processes", "2"]
        for module in modules if lane != "arq" else ():
            given += ["--jobs", module]
        log = self._directory / f"worker-{len(self.workers)}.log"
        worker = Worker(lane, given, url or self._url, log, self._environ | (environ or {}))
        self.workers.append(worker)
        return worker

    async def start(self, lane: str, *options: str, **rest: object) -> Worker:
        """Start a worker; returns when it claims jobs."""
        worker = self.launch(lane, *options, **rest)
        await ready(worker)
        return worker

    def living(self) -> list[Worker]:
        return [one for one in self.workers if one.code is None]

    async def stop(self, seconds: float = 30.0) -> list[int]:
        """SIGTERM to all that live, and wait; their exit codes."""
        living = self.living()
        for one in living:
            one.send(signal.SIGCONT)
            one.send(signal.SIGTERM)
        return [await one.wait(seconds) for one in living]

    def end(self) -> None:
        for one in self.workers:
            one.end()

    def excerpts(self) -> list[str]:
        """What some of the workers said, those with a traceback first."""
        ranked = sorted(self.workers, key=lambda one: TRACEBACK not in one.log)
        return [one.excerpt() for one in ranked[:EXCERPTS]]

    def lost_leases(self) -> int:
        """How many attempts the workers themselves stopped because their leases were gone."""
        return sum(one.log.count("lost the lease of job") for one in self.workers)

    def refused(self) -> int:
        """How many outcomes of drop-in workers were refused; they write no counters, ours do."""
        told = (
            re.findall(r"(\d+) outcomes refused", one.log)
            for one in self.workers
            if one.lane == "arq"
        )
        return sum(int(count) for counts in told for count in counts)


async def ready(*workers: Worker) -> None:
    for one in workers:
        await one.wait_logged(r"\d+ slots, \d+ jobs known|Starting worker for \d+ functions")
