"""The book outside of Valkey: what was acknowledged to a producer, and what each job really did.

A line is one fact: ``kind, id, worker's pid, own pid, try, monotonic ns``, separated by tabs, and a
mark of its end. Each is one write to a file opened with O_APPEND, so lines of several processes do
not mix, and what a process wrote stays when it is killed. A process that is killed in the middle of
a write (Linux looks for that where a page ends) leaves a part of a line, without the mark: it
counts for nothing, and the next line begins with a line's end of its own. The monotonic clock is
the same for all processes of a machine, whatever becomes of their wall clocks.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

VARIABLE: Final = "CHAOS_LEDGER"
END: Final = "."

# ``acknowledged`` is written by the harness, the others by the jobs. ``start`` is a job's first
# line, ``effect`` stands for what a job does to the world, ``cancelled`` for its cancellation.
Kind = Literal["acknowledged", "start", "effect", "cancelled", "note"]


class Entry(NamedTuple):
    """One fact. ``worker`` is the pid of the worker; ``try_`` is 0 where the job cannot know it."""

    kind: str
    id: str
    worker: int
    pid: int
    try_: int
    at_ns: int


def write(kind: Kind, job_id: str, try_: int = 0, path: str | None = None) -> None:
    """Add a fact; from a job, the file is the one that its environment names."""
    parent = multiprocessing.parent_process()
    worker = os.getpid() if parent is None else parent.pid
    line = _line(kind, job_id, worker, os.getpid(), try_, time.monotonic_ns())
    append(path or os.environ[VARIABLE], line.encode())


def append(path: str, lines: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, lines)
    finally:
        os.close(descriptor)


class Ledger:
    """One fault's book, as the harness reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0
        path.touch()

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Note that the broker has answered for these jobs."""
        now = time.monotonic_ns()
        lines = "".join(_line("acknowledged", one, 0, 0, 0, now) for one in ids)
        append(str(self.path), lines.encode())

    def read(self, kind: Kind | None = None) -> list[Entry]:
        return [one for one in self._entries() if kind is None or one.kind == kind]

    def read_new(self) -> Iterator[Entry]:
        """What was written since the last call of this; the last line where it is whole."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        return _parsed(whole.decode())

    def _entries(self) -> Iterator[Entry]:
        return _parsed(self.path.read_text(encoding="utf-8"))


def _line(kind: Kind, job_id: str, worker: int, pid: int, try_: int, at_ns: int) -> str:
    return f"\n{kind}\t{job_id}\t{worker}\t{pid}\t{try_}\t{at_ns}\t{END}\n"


def _parsed(text: str) -> Iterator[Entry]:
    for line in text.splitlines():
        if line.endswith(f"\t{END}"):
            kind, job_id, worker, pid, try_, at_ns, _ = line.split("\t")
            yield Entry(kind, job_id, int(worker), int(pid), int(try_), int(at_ns))
