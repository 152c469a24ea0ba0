"""The CPU lane: one job a process, in the pool of :mod:`worker.pool`, and one more while short."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from twolane import wire
from twolane.errors import TwolaneError
from worker.ahead import Ahead
from worker.attempt import Attempt, Ended, Verdict
from worker.io import Finish
from worker.pool import Pool, Ran, Run

# A job this long starts within as much of being claimed; its wait for the broker, some 0.5 ms, is
# nothing to longer ones.
SHORT_SECONDS: Final = 0.02


class CpuLane:
    """Runs attempts in a pool's processes and reports each one's end once, from the event loop.

    ``on_room`` is called when more can be claimed again than before.
    """

    def __init__(
        self, pool: Pool, finish: Finish, on_room: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._finish = finish
        pool.on_recovery = on_room
        self._ahead = Ahead(
            pool.size,
            SHORT_SECONDS,
            functools.partial(self.stop, verdict=Verdict.RELEASED),
            waits=_has_no_process,
            # They wait for a process that is being started, not behind a long job.
            holds_on=lambda: pool.busy < pool.size - pool.missing,
        )

    def ahead(self) -> int:
        """How many jobs to claim beyond one a process; below zero where processes are missing."""
        return -self._pool.missing or self._ahead.allowed()

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
        future.on_requeued = functools.partial(self._ahead.add, attempt)
        if future.process is None:
            self._ahead.add(attempt)

    def stop(self, attempt: Attempt, verdict: Verdict) -> None:
        """Kill the process that runs an attempt, and no other."""
        if attempt.verdict is not None or attempt.handle is None or attempt.handle.done():
            return
        attempt.verdict = verdict
        attempt.handle.cancel()

    def helpers(self) -> Iterable[int]:
        """The pool's processes."""
        return self._pool.pids

    async def close(self) -> None:
        await self._pool.stop()

    def _ended(self, attempt: Attempt, future: asyncio.Future[Ran]) -> None:
        attempt.handle = None
        self._ahead.discard(attempt)
        run_seconds = monotonic() - attempt.started
        if future.cancelled():
            ended = Ended(run_seconds=run_seconds, error=wire.ErrorRecord("CancelledError", ""))
        elif (error := future.exception()) is not None:
            assert isinstance(error, TwolaneError), error
            ended = Ended(run_seconds=run_seconds, error=wire.error_record(error))
        else:
            ran = future.result()
            self._ahead.ran(ran.run_seconds)
            ended = Ended(
                result=ran.result,
                error=ran.error,
                retryable=ran.error is None or ran.error.type not in NEVER_BETTER,
                run_seconds=ran.run_seconds,
                cpu_seconds=ran.cpu_seconds,
                memory_bytes=ran.peak_memory_bytes,
            )
        self._finish(attempt, ended)


def _has_no_process(attempt: Attempt) -> bool:
    return isinstance(attempt.handle, Run) and attempt.handle.process is None


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
