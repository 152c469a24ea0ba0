"""Commands with processes of their own, which must not outlive them."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.cli.conftest import COMMAND, ROOT

Check = Callable[[], object]


def wait_for(check: Check, what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


class Started:
    """A command in a process group of its own, as a shell would start it.

    ``said`` has what it prints on both outputs; with ``apart``, ``printed`` has what comes on the
    standard one, after its end.
    """

    def __init__(self, *args: str, cwd: Path = ROOT, apart: bool = False) -> None:
        self.printed: list[str] = []
        self._printed = tempfile.TemporaryFile("w+") if apart else None  # noqa: SIM115
        self.process = subprocess.Popen(
            [*COMMAND, *args],
            stdin=subprocess.DEVNULL, stdout=self._printed or subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            cwd=cwd, text=True, start_new_session=True,
        )  # fmt: skip
        self.family: list[psutil.Process] = []
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream = self.process.stderr if self._printed else self.process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def wait_said(self, words: str, seconds: float = 40.0) -> None:
        deadline = time.monotonic() + seconds
        while not any(words in line for line in self.said):
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"never said {words!r}, but {''.join(self.said)}"
            self.said.append(line)

    def look(self) -> list[psutil.Process]:
        """Note all the processes that it has started, and theirs."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return self.family

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, seconds: float = 60.0) -> int:
        """Its exit code; what it said is complete then."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        while (line := self._lines.get(timeout=10)) is not None:
            self.said.append(line)
        if self._printed is not None:
            with self._printed:
                self._printed.seek(0)
                self.printed = self._printed.readlines()
        return code

    def is_gone(self) -> bool:
        """Whether nothing is left of the processes that were noted."""
        return not any(map(is_alive, self.family))

    def clean(self) -> None:
        for one in [*self.family, self.process]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()
        self.process.wait(30)


@contextlib.contextmanager
def starting(apart: bool = False) -> Iterator[Callable[..., Started]]:
    """Start commands that end with the block."""
    started: list[Started] = []

    def begin(*args: str) -> Started:
        started.append(Started(*args, apart=apart))
        return started[-1]

    try:
        yield begin
    finally:
        for one in started:
            one.clean()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
