"""CPU seconds of processes with all that they have started."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil


def cpu_seconds(*, at_end: bool = False) -> float:
    """CPU seconds of this process and of its descendants so far; those that live to 10 ms.

    Looking at the descendants costs milliseconds. The own time is read after that, and before it
    with ``at_end``, so that none of it is in the difference of a look and one at the end.
    """
    before = time.process_time()
    times = psutil.Process().cpu_times()
    ended = times.children_user + times.children_system
    others = ended + of_trees(_children(psutil.Process()))
    return float((before if at_end else time.process_time()) + others)


def of_trees(roots: Iterable[psutil.Process]) -> float:
    """CPU seconds of processes and their descendants, the ended ones that were waited for too."""
    spent = 0.0
    for root in roots:
        for one in (root, *_descendants(root)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                spent += times.user + times.system + times.children_user + times.children_system
    return spent


def of_own(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds of these processes alone."""
    spent = 0.0
    for one in processes:
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            spent += times.user + times.system
    return spent


def trees(pids: Iterable[int]) -> list[psutil.Process]:
    """The processes of these ids that live."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
