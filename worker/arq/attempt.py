"""One attempt at one job of an arq application: its hook, its log lines and its outcome."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import arq.jobs
import arq.utils
import arq.worker

from twolane.store import ClaimedJob

if TYPE_CHECKING:
    from worker.arq.runner import Worker

log = logging.getLogger("arq.worker")

# arq tells a delay from here on: what waits longer than two of its polls.
DELAY_TOLD_MS: Final = 1_200
# arq's own margin on top of a job's timeout, after which it takes the job for dead.
OVERRUN_SECONDS: Final = 10.0


class Attempt:
    """A claimed job on its way. ``deadline`` is on the monotonic clock, s."""

    __slots__ = (
        "args", "claimed_ms", "deadline", "due_ms", "enqueued_ms", "fence", "function",
        "has_begun", "hold_ms", "id", "is_lost", "kwargs", "must_set_try", "name", "ref", "task",
        "told", "try_",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedJob, now_ms: int) -> None:
        self.id = claimed.id
        self.fence = claimed.fence
        self.try_ = claimed.try_
        self.due_ms = claimed.due_ms
        self.claimed_ms = now_ms
        # Until it is known what runs it has no timeout; it is then renewed as long as it is held.
        self.deadline = float("inf")
        self.name = "<unknown>"
        self.ref = f"{claimed.id}:{self.name}"
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[Any, Any] = {}
        self.enqueued_ms = 0
        self.function: Any = None
        self.hold_ms = 0
        self.must_set_try = False
        self.has_begun = False
        self.is_lost = False
        self.task: asyncio.Task[None] | None = None
        self.told: asyncio.Future[bool] | None = None

    def read(self, payload: bytes, deserializer: Callable[[bytes], dict[str, Any]] | None) -> int:
        """Fill in what is to run; returns which try its producer wants it to be, 0 for any.

        Raises:
            arq.jobs.SerializationError: the payload is not a job's.
        """
        name, args, kwargs, wanted_try, enqueued_ms = arq.jobs.deserialize_job_raw(
            payload, deserializer=deserializer
        )
        # A name may have no hash, and a time may be a text: no one job may end the worker.
        if not (
            isinstance(name, str)
            and isinstance(enqueued_ms, int | float)
            and isinstance(wanted_try, int | None)
        ):
            raise arq.jobs.SerializationError("unable to deserialize job: its fields are not arq's")
        self.name, self.args, self.kwargs, self.enqueued_ms = name, args, kwargs, enqueued_ms
        return wanted_try or 0

    def ended(
        self, then: Callable[[Attempt, asyncio.Task[None]], None]
    ) -> Callable[[asyncio.Task[None]], None]:
        return functools.partial(then, self)


@dataclass(slots=True)
class Outcome:
    """``is_final`` is False for a job that is to be tried again, ``defer_ms`` from now."""

    started_ms: int
    finished_ms: int
    is_final: bool = True
    success: bool = False
    result: Any = None
    defer_ms: int = 0


async def outcome_of(
    worker: Worker, attempt: Attempt, ctx: dict[Any, Any], timeout_s: float | None
) -> Outcome:
    """Run an attempt's job with its start hook and say in the log how it went; never raises.

    A cancellation is the outcome of an abort, of a signal, or of a lease that was lost.
    """
    start_ms = arq.utils.timestamp_ms()
    ref, extra = attempt.ref, None
    tells = log.isEnabledFor(logging.INFO)
    try:
        if worker.on_job_start:
            await worker.on_job_start(ctx)
            start_ms = arq.utils.timestamp_ms()
        if tells:
            _tell_start(attempt, start_ms)
        if timeout_s is not None:
            attempt.deadline = monotonic() + timeout_s + OVERRUN_SECONDS
        assert attempt.task is not None
        worker.job_tasks[attempt.id] = attempt.task
        try:
            async with asyncio.timeout(timeout_s):
                result = await attempt.function.coroutine(ctx, *attempt.args, **attempt.kwargs)
            # Within the try: a result's repr may raise, and is then what the job failed with.
            shown = "" if result is None or not (tells and worker.log_results) else _cut(result)
        except (Exception, asyncio.CancelledError) as error:  # arq's choice of what may have one
            extra = getattr(error, "extra", None)
            if callable(extra):
                extra = extra()
            raise
        finally:
            # A later attempt at the same job may have taken the place.
            if worker.job_tasks.get(attempt.id) is attempt.task:
                del worker.job_tasks[attempt.id]
    except (KeyboardInterrupt, GeneratorExit):
        raise  # Ctrl-C, where the application handles signals itself; a task that is destroyed
    except BaseException as error:  # whatever a job raises, it costs no other job its worker
        finished_ms = arq.utils.timestamp_ms()
        return _failed(worker, attempt, error, start_ms, finished_ms, extra)
    finished_ms = arq.utils.timestamp_ms()
    if tells:
        log.info("%6.2fs ← %s ● %s", (finished_ms - start_ms) / 1000, ref, shown)
    worker.jobs_complete += 1
    return Outcome(start_ms, finished_ms, success=True, result=result)


def _tell_start(attempt: Attempt, start_ms: int) -> None:
    arguments = arq.utils.args_to_string(attempt.args, attempt.kwargs)
    more = f" try={attempt.try_}" if attempt.try_ > 1 else ""
    late_ms = start_ms - attempt.due_ms
    if late_ms > DELAY_TOLD_MS:
        more += f" delayed={late_ms / 1000:0.2f}s"
    waited = (start_ms - attempt.enqueued_ms) / 1000
    log.info("%6.2fs → %s(%s)%s", waited, attempt.ref, arguments, more)


def _cut(result: Any) -> str:
    return arq.utils.truncate(repr(result))


def _failed(
    worker: Worker, attempt: Attempt, error: BaseException, start_ms: int, finished_ms: int,
    extra: Any,
) -> Outcome:  # fmt: skip
    seconds, ref = (finished_ms - start_ms) / 1000, attempt.ref
    outcome = Outcome(start_ms, finished_ms)
    if attempt.is_lost:
        return outcome
    if worker.retry_jobs and isinstance(error, arq.worker.Retry):
        outcome.is_final, outcome.defer_ms = False, error.defer_score or 0
        log.info("%6.2fs ↻ %s retrying job in %0.2fs", seconds, ref, outcome.defer_ms / 1000)
        worker.jobs_retried += 1
    elif attempt.id in worker.aborting_tasks and isinstance(error, asyncio.CancelledError):
        log.info("%6.2fs ⊘ %s aborted", seconds, ref)
        outcome.result = error
        worker.jobs_failed += 1
    elif worker.retry_jobs and isinstance(error, asyncio.CancelledError | arq.worker.RetryJob):
        outcome.is_final = False
        log.info("%6.2fs ↻ %s cancelled, will be run again", seconds, ref)
        worker.jobs_retried += 1
    else:
        log.error(
            "%6.2fs ! %s failed, %s: %s", seconds, ref, type(error).__name__, error,
            exc_info=error, extra={"extra": extra},
        )  # fmt: skip
        if not isinstance(error, Exception | asyncio.CancelledError):
            # SystemExit and its like: as a result they would end whoever asks for it.
            error = arq.worker.JobExecutionFailed(f"{type(error).__name__}: {error}")
        outcome.result = error
        worker.jobs_failed += 1
    return outcome
