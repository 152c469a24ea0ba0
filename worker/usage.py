"""What a job used of its process: seconds, CPU seconds and peak memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Final

import psutil

_LINUX: Final = sys.platform == "linux"
_PAGE: Final = resource.getpagesize()
# ru_maxrss is in KiB on Linux and in bytes on macOS (getrusage(2) of each).
_MAXRSS_UNIT: Final = 1024 if _LINUX else 1


class Usage:
    """Measures one job after the other in the process that it is made in.

    After :meth:`stop`, ``run_seconds`` is wall time, ``cpu_seconds`` the CPU time of all threads of
    the process and of the child processes that the job waited for, and ``peak_bytes`` the most
    resident memory at any moment of the job. On Linux the kernel's high-water mark is set back
    before each job (5 written to ``/proc/self/clear_refs``, see proc(5)), at a cost of 1 µs; it
    is then what getrusage reports. Elsewhere the peak is that of the process's life so far.
    """

    def __init__(self) -> None:
        self.run_seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._clear_refs = _open_clear_refs()
        self._children_seconds = _children_seconds()
        self._began = self._cpu_began = 0.0

    def start(self) -> None:
        if self._clear_refs >= 0:
            try:
                os.write(self._clear_refs, b"5")
            except OSError:  # a job closed descriptors that were not its own
                self._clear_refs = -1
        self._cpu_began = time.process_time()
        self._began = time.perf_counter()

    def stop(self) -> None:
        self.run_seconds = time.perf_counter() - self._began
        own = time.process_time() - self._cpu_began
        # Nothing is waited for between jobs, so the last job's end is this one's beginning.
        children = _children_seconds()
        self.cpu_seconds = own + children - self._children_seconds
        self._children_seconds = children
        self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def resident_bytes(pid: int) -> int:
    """The resident memory of a process; 0 if there is no such process."""
    try:
        if _LINUX:
            with open(f"/proc/{pid}/statm", "rb", buffering=0) as statm:
                return int(statm.read(128).split()[1]) * _PAGE
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error, IndexError):
        return 0


def _children_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _open_clear_refs() -> int:
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return -1
