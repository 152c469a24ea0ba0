"""Watches the running jobs of a pool: one timer for their timeouts, one for their memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from twolane.errors import JobTimeout, ProcessDied, TwolaneError
from worker.usage import resident_bytes

if TYPE_CHECKING:
    from worker.process import JobProcess

# Arbitrary: a job that allocates 1 GB a second is 100 MB over its limit when it is seen.
MEMORY_POLL_SECONDS: Final = 0.1
# A timer may go off early by the resolution of the loop's clock.
_EARLY_SECONDS: Final = 0.001

End = Callable[["JobProcess", TwolaneError], None]


class TimeoutWatch:
    """Ends the jobs that run past their deadline.

    A timer for each job would be set and cancelled with each; the one timer here is set only for
    a deadline before the one it is set to. With one timeout for all jobs that is once in as long as
    the timeout.
    """

    def __init__(self, processes: Iterable[JobProcess], end: End) -> None:
        self._loop = asyncio.get_running_loop()
        self._processes = processes
        self._end = end
        self._timer: asyncio.TimerHandle | None = None
        self.next = float("inf")

    def set(self, deadline: float) -> None:
        self.stop()
        self.next = deadline
        self._timer = self._loop.call_at(deadline, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self.next = float("inf")
        now = self._loop.time() + _EARLY_SECONDS
        following = float("inf")
        for process in list(self._processes):
            run = process.run
            if run is None or process.leaving:
                continue
            if run.deadline <= now:
                message = (
                    f"ran longer than its timeout of {run.timeout:g} s; its process was killed"
                )
                self._end(process, JobTimeout(message))
            else:
                following = min(following, run.deadline)
        if following < self.next:
            self.set(following)


class MemoryWatch:
    """Ends the jobs whose process holds more resident memory than the limit."""

    def __init__(self, processes: Iterable[JobProcess], limit: int, end: End) -> None:
        self._loop = asyncio.get_running_loop()
        self._processes = processes
        self._limit = limit
        self._end = end
        self._timer = self._loop.call_later(MEMORY_POLL_SECONDS, self._check)

    def stop(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        for process in list(self._processes):
            if process.run is None or process.leaving:
                continue
            used = resident_bytes(process.pid)
            if used > self._limit:
                message = (
                    f"killed: over the memory limit of {self._limit / 2**20:,.0f} MiB a process "
                    f"(it had {used / 2**20:,.0f} MiB)"
                )
                self._end(process, ProcessDied(message))
        self._timer = self._loop.call_later(MEMORY_POLL_SECONDS, self._check)
