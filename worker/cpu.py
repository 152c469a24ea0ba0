"""The CPU lane: one job a process, in the pool of :mod:`worker.pool`.

Where jobs are over sooner than the broker answers, the processes would wait for it most of their
time. While jobs take less than ``SHORT_SECONDS``, one more a process is therefore claimed ahead;
one that has not started within ``AHEAD_SECONDS`` goes back to the queue without using up a try.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from time import monotonic
from typing import Final

from twolane import wire
from twolane.errors import TwolaneError
from worker.attempt import Attempt, Ended, Verdict
from worker.io import Finish
from worker.pool import Pool, Ran, Run

# A job this long starts within as much of being claimed; its wait for the broker, some 0.5 ms, is
# nothing to longer ones.
SHORT_SECONDS: Final = 0.02
AHEAD_SECONDS: Final = 0.1  # arbitrary: what a wrong guess may cost a job that others could run
SMOOTHING: Final = 0.2  # weight of the latest job in the mean run time


class CpuLane:
    """Runs attempts in a pool's processes and reports each one's end once, from the event loop."""

    def __init__(self, pool: Pool, finish: Finish) -> None:
        self._pool = pool
        self._finish = finish
        self._mean_seconds = SHORT_SECONDS
        # Those that have no process yet, the one that waits longest first.
        self._ahead: dict[Attempt, None] = {}
        self._impatience: asyncio.TimerHandle | None = None

    def ahead(self) -> int:
        """How many jobs to claim beyond those that have a process."""
        return self._pool.size if self._mean_seconds < SHORT_SECONDS else 0

    def start(self, attempt: Attempt) -> None:
        """Start an attempt whose job and payload are known, or let it wait for a process."""
        assert attempt.job is not None
        assert attempt.payload is not None
        attempt.started = monotonic()
        # The pool kills the process at the timeout; the rest is for the kill to be noticed.
        attempt.deadline = attempt.started + attempt.job.timeout + 10
        # [args, kwargs], both still encoded: the process decodes them.
        arguments = b"\x92" + bytes(attempt.payload.args) + bytes(attempt.payload.kwargs)
        future = attempt.handle = self._pool.run(attempt.job.name, arguments, attempt.job.timeout)
        future.add_done_callback(functools.partial(self._ended, attempt))
        if future.process is None:
            self._ahead[attempt] = None
            if self._impatience is None:
                self._look_again_at(attempt)

    def stop(self, attempt: Attempt, verdict: Verdict) -> None:
        """Kill the process that runs an attempt, and no other."""
        if attempt.verdict is not None or attempt.handle is None or attempt.handle.done():
            return
        attempt.verdict = verdict
        attempt.handle.cancel()

    def _look_again_at(self, first: Attempt) -> None:
        delay = first.started + AHEAD_SECONDS - monotonic()
        loop = asyncio.get_running_loop()
        self._impatience = loop.call_later(max(0.0, delay), self._hand_back)

    def _hand_back(self) -> None:
        """Give up those that were claimed ahead of jobs that turned out to be long."""
        self._impatience = None
        if self._ahead and self._pool.busy < self._pool.size:
            # They wait for a process that is being started, not behind a long job.
            loop = asyncio.get_running_loop()
            self._impatience = loop.call_later(AHEAD_SECONDS, self._hand_back)
            return
        late = monotonic() - AHEAD_SECONDS
        for attempt in list(self._ahead):
            run = attempt.handle
            if not isinstance(run, Run) or run.process is not None:
                del self._ahead[attempt]
            elif attempt.started <= late:
                del self._ahead[attempt]
                self._mean_seconds = SHORT_SECONDS  # a long one is under way: nothing ahead of it
                self.stop(attempt, Verdict.RELEASED)
            else:
                self._look_again_at(attempt)
                return

    def helpers(self) -> Iterable[int]:
        """The pool's processes."""
        return self._pool.pids

    async def close(self) -> None:
        await self._pool.stop()

    def _ended(self, attempt: Attempt, future: asyncio.Future[Ran]) -> None:
        attempt.handle = None
        self._ahead.pop(attempt, None)
        run_seconds = monotonic() - attempt.started
        if future.cancelled():
            ended = Ended(run_seconds=run_seconds, error=wire.ErrorRecord("CancelledError", ""))
        elif (error := future.exception()) is not None:
            assert isinstance(error, TwolaneError), error
            ended = Ended(run_seconds=run_seconds, error=wire.error_record(error))
        else:
            ran = future.result()
            self._mean_seconds += SMOOTHING * (ran.run_seconds - self._mean_seconds)
            ended = Ended(
                result=ran.result,
                error=ran.error,
                retryable=ran.error is None or ran.error.type not in NEVER_BETTER,
                run_seconds=ran.run_seconds,
                cpu_seconds=ran.cpu_seconds,
                memory_bytes=ran.peak_memory_bytes,
            )
        self._finish(attempt, ended)


# Failures that another try would meet again.
NEVER_BETTER = frozenset(
    {
        "ResultNotEncodable",
        "ResultTooLarge",
        "BadArguments",
        "UnknownFunction",
        "UndecodablePayload",
    }
)
