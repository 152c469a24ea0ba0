"""The CPU lane: one job a process, in the pool of :mod:`worker.pool`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from time import monotonic

from twolane import wire
from twolane.errors import TwolaneError
from worker.attempt import Attempt, Ended, Verdict
from worker.io import Finish
from worker.pool import Pool, Ran


class CpuLane:
    """Runs attempts in a pool's processes and reports each one's end once, from the event loop."""

    def __init__(self, pool: Pool, finish: Finish) -> None:
        self._pool = pool
        self._finish = finish

    def start(self, attempt: Attempt) -> None:
        """Start an attempt whose job and payload are known."""
        assert attempt.job is not None
        assert attempt.payload is not None
        attempt.started = monotonic()
        # The pool kills the process at the timeout; the rest is for the kill to be noticed.
        attempt.deadline = attempt.started + attempt.job.timeout + 10
        # [args, kwargs], both still encoded: the process decodes them.
        arguments = b"\x92" + bytes(attempt.payload.args) + bytes(attempt.payload.kwargs)
        future = attempt.handle = self._pool.run(attempt.job.name, arguments, attempt.job.timeout)
        future.add_done_callback(functools.partial(self._ended, attempt))

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
        run_seconds = monotonic() - attempt.started
        if future.cancelled():
            ended = Ended(run_seconds=run_seconds, error=wire.ErrorRecord("CancelledError", ""))
        elif (error := future.exception()) is not None:
            assert isinstance(error, TwolaneError), error
            ended = Ended(run_seconds=run_seconds, error=wire.error_record(error))
        else:
            ran = future.result()
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
