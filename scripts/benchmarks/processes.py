"""Processes that the benchmark starts: their ends, their pauses, and what they use."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from benchmarks import plan as plans
from benchmarks.environments import python_of
from benchmarks.plan import Plan

STOP_SECONDS = 3.0  # to end in order; nothing is lost by killing what has been measured
PACKAGE = Path(__file__).resolve().parent


class ContestantFailed(Exception):
    """A contestant's process ended, or said nothing; what it printed is in the message."""


class Memory(NamedTuple):
    """Of a process and its children, in bytes. ``pss`` shares out what several of them share."""

    rss: int
    pss: int


class Tree:
    """A process in a session of its own, with all of its descendants."""

    def __init__(
        self, environment: str | None, arguments: list[str], plan: Plan, log: Path, *, talks: bool
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(python_of(environment)), *arguments],
                env=_environment(plan),
                cwd=log.parent,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                start_new_session=True,
            )

    def members(self) -> list[psutil.Process]:
        """The processes that live now: descendants, and orphans that kept the session."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            found = {one.pid: one for one in (top, *top.children(recursive=True))}
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if pid not in found and os.getsid(pid) == self.process.pid:
                    found[pid] = psutil.Process(pid)
        return list(found.values())

    def check(self) -> None:
        if self.process.poll() is not None:
            raise ContestantFailed(f"ended with status {self.process.returncode}:\n{self.said()}")

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-1500:].strip()

    def freeze(self) -> None:
        _signal(self.members(), signal.SIGSTOP)

    def thaw(self) -> None:
        _signal(self.members(), signal.SIGCONT)

    def cpu_seconds(self) -> dict[tuple[int, float], float]:
        """The processor time of each process that lives now, by its number and its start."""
        found = {}
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                found[one.pid, one.create_time()] = times.user + times.system
        return found

    def memory(self) -> Memory:
        rss = pss = 0
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                full = one.memory_full_info()
                rss += full.rss
                pss += getattr(full, "pss", full.rss)
        return Memory(rss, pss)

    def stop(self) -> None:
        """End all of it, in order if that is quick."""
        members = self.members()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        _signal(members, signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        # psutil compares start times, so a number that is used again is left alone.
        _signal([*members, *self.members()], signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(members, STOP_SECONDS)


class Talker:
    """A producer: `benchmarks.launch produce`, asked by lines of JSON."""

    def __init__(self, tree: Tree) -> None:
        assert tree.process.stdin is not None
        assert tree.process.stdout is not None
        self.tree = tree
        self._orders: IO[bytes] = tree.process.stdin
        self._answers: IO[bytes] = tree.process.stdout
        self.answer()  # it is ready

    def order(self, **words: Any) -> None:
        try:
            self._orders.write(json.dumps(words).encode() + b"\n")
            self._orders.flush()
        except BrokenPipeError:
            self.answer()

    def answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            self.tree.process.wait()
            self.tree.check()
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, **words: Any) -> dict[str, Any]:
        self.order(**words)
        return self.answer()


def launch(environment: str | None, side: str, module: str, plan: Plan, log: Path) -> Tree:
    arguments = ["-m", "benchmarks.launch", side, module]
    return Tree(environment, arguments, plan, log, talks=side == "produce")


def describe(environment: str | None, module: str, plan: Plan) -> dict[str, Any]:
    done = subprocess.run(
        [str(python_of(environment)), "-m", "benchmarks.launch", "describe", module],
        env=_environment(plan), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ContestantFailed(done.stderr[-1500:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def running(trees: list[Tree]) -> Iterator[list[Tree]]:
    """Stop every tree that is in the list at the end."""
    try:
        yield trees
    finally:
        for tree in trees:
            tree.stop()


def _environment(plan: Plan) -> Mapping[str, str]:
    # No setting of this user or of the project reaches a contestant.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "TWOLANE", "CELERY", "VIRTUAL_ENV"))
    }
    return {**kept, "PYTHONPATH": str(PACKAGE.parent), plans.VARIABLE: plan.dump()}


def _signal(members: list[psutil.Process], number: signal.Signals) -> None:
    for one in members:
        with contextlib.suppress(psutil.Error):
            one.send_signal(number)


def wait_until(condition: Any, seconds: float, every: float = 0.02) -> bool:
    """Poll a condition until it holds or the time is over; whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return bool(condition())
        time.sleep(every)
    return True
