"""The IO lane: many jobs at once on one event loop, blocking ones in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic, thread_time
from typing import Any, Final

from twolane import wire
from twolane.arguments import Signature
from twolane.errors import (
    BadArguments,
    JobCancelled,
    JobTimeout,
    NotEncodable,
    ResultNotEncodable,
    ResultTooLarge,
)
from twolane.registry import Job, Registry
from worker.ahead import Ahead
from worker.attempt import Attempt, Ended, Verdict
from worker.exchange import CONVERSATIONS, PORTION
from worker.meter import Gauge, JobExited, Meter, metered

log = logging.getLogger("twolane.worker")

# How long a job may go on after it was cancelled before its slot is taken from it; arbitrary, long
# enough for closing a connection.
CANCEL_GRACE_SECONDS: Final = 5.0
# Timeouts from a second on are looked at together every 50 ms; a timer a job costs each job 2 µs.
COARSE_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 0.05
# As long as a job ahead may wait for a slot, on the average.
SHORT_SECONDS: Final = 0.005
# How long the lease of a job ahead is kept while the loop is held; arbitrary.
HELD_SECONDS: Final = 10.0
LONGEST_DEFER_SECONDS: Final = 10 * 365 * 86_400.0  # arbitrary: years fit the server's clock
Finish = Callable[[Attempt, Ended], None]


class IoLane:
    """Runs attempts as tasks of the current event loop and reports each one's end once.

    ``slots`` of them run at once. ``finish`` is called from the loop. ``retry_error`` is the
    exception class by which a job asks for another try (arq's ``Retry``).
    """

    def __init__(
        self,
        registry: Registry,
        ctx: dict[str, Any],
        slots: int,
        finish: Finish,
        retry_error: type[BaseException],
        max_result_bytes: int = wire.MAX_RESULT_BYTES,
    ) -> None:
        self.gauge = Gauge()
        self._ctx = ctx
        self._finish = finish
        self._retry_error = retry_error
        self._max_result_bytes = max_result_bytes
        self._free = slots
        # With fewer slots than fill two portions, the loop and the server wait for each other.
        self._ahead = Ahead(
            min(slots, max(0, CONVERSATIONS * PORTION - slots)), SHORT_SECONDS, self._give_back
        )
        self._calls = {job.name: _Call(job) for job in registry.of_lane("io")}
        self._loop = asyncio.get_running_loop()
        self._timed: set[Attempt] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def ahead(self) -> int:
        """How many jobs to claim beyond those that have a slot."""
        return self._ahead.allowed()

    def start(self, attempt: Attempt) -> None:
        """Start an attempt whose job and payload are known, or let it wait for a slot.

        Raises:
            BadArguments, UndecodablePayload: what arrived does not fit the function.
        """
        if self._free > 0:
            self._begin(attempt)
        else:
            attempt.started = monotonic()
            # Where the loop is held meanwhile, its lease is not kept for good.
            attempt.deadline = attempt.started + HELD_SECONDS
            self._ahead.add(attempt)

    def _begin(self, attempt: Attempt) -> None:
        assert attempt.job is not None
        assert attempt.payload is not None
        call = self._calls[attempt.job.name]
        payload = attempt.payload
        args: Sequence[Any]
        kwargs: Mapping[str, Any]
        args, kwargs = wire.loads_arguments(payload)
        if call.must_convert:
            try:
                args, kwargs = call.signature.receive(args, kwargs)
            except Exception:
                raise
            except BaseException as error:  # of an argument's own __post_init__
                raise JobExited(f"{type(error).__name__}({error})") from error
        meter = Meter(attempt.job.name)
        ctx = None
        if call.wants_ctx:
            ctx = {
                **self._ctx,
                "job_id": attempt.id,
                "job_try": attempt.try_,
                "enqueue_time": payload.enqueued,
                "score": attempt.due_ms,
            }
        attempt.started = monotonic()
        attempt.deadline = attempt.started + attempt.job.timeout + 2 * CANCEL_GRACE_SECONDS
        if call.is_coroutine:
            coroutine = metered(call(ctx, args, kwargs), meter, self.gauge)
        else:
            coroutine = self._in_thread(functools.partial(call, ctx, args, kwargs), meter)
        task = attempt.handle = self._loop.create_task(coroutine)
        self._free -= 1
        task.add_done_callback(functools.partial(self._ended, attempt, meter))
        if attempt.job.timeout < COARSE_SECONDS:
            attempt.timer = self._loop.call_later(
                attempt.job.timeout, self.stop, attempt, Verdict.TIMED_OUT
            )
        else:
            self._timed.add(attempt)
            if self._sweep is None:
                self._sweep = self._loop.call_later(SWEEP_SECONDS, self._sweep_timeouts)

    def stop(self, attempt: Attempt, verdict: Verdict) -> None:
        """Cancel an attempt; it ends within the cancel grace even if its job does not let go."""
        if attempt in self._ahead.attempts:
            self._ahead.discard(attempt)
            attempt.verdict = verdict
            self._finish(attempt, Ended())
            return
        if attempt.verdict is not None or attempt.handle is None or attempt.handle.done():
            return
        attempt.verdict = verdict
        self._timed.discard(attempt)
        if attempt.timer is not None:
            attempt.timer.cancel()
        attempt.timer = self._loop.call_later(CANCEL_GRACE_SECONDS, self._abandon, attempt)
        attempt.handle.cancel()

    def _sweep_timeouts(self) -> None:
        now = monotonic()
        late = [one for one in self._timed if one.job and one.started + one.job.timeout <= now]
        for attempt in late:
            self.stop(attempt, Verdict.TIMED_OUT)
        self._sweep = None
        if self._timed:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._sweep_timeouts)

    def helpers(self) -> Iterable[int]:
        """No process but this one."""
        return ()

    async def close(self) -> None:
        """Nothing to close: threads that still run end with the process."""

    async def _in_thread(self, call: Callable[[], Any], meter: Meter) -> Any:
        ended: asyncio.Future[Any] = self._loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            if ended.done():
                return  # the job was stopped; its thread could not be
            if error is None:
                ended.set_result(result)
            else:
                ended.set_exception(error)

        def run() -> None:
            result: Any = None
            failure: BaseException | None = None
            began = thread_time()
            try:
                result = call()
            except (SystemExit, KeyboardInterrupt) as error:
                failure = JobExited(f"{type(error).__name__}({error})")
                failure.__cause__ = error
            except StopIteration as error:  # no future takes one: the job would never end
                failure = RuntimeError("the job raised StopIteration")
                failure.__cause__ = error
            except BaseException as error:
                failure = error
            meter.cpu_seconds = thread_time() - began
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
                self._loop.call_soon_threadsafe(tell, result, failure)

        # A daemon of its own, not one of an executor's: Python's exit waits for those, and one that
        # never comes back would be missing for every later job.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="twolane-io", daemon=True).start()
        return await ended

    def _ended(self, attempt: Attempt, meter: Meter, task: asyncio.Task[Any]) -> None:
        self._timed.discard(attempt)
        if attempt.timer is not None:
            attempt.timer.cancel()
        error: BaseException | None
        if task.cancelled():
            # Not asyncio's own class: readers take that for a cancellation that a person asked for.
            error = JobCancelled("the job cancelled itself, or what it awaited was cancelled")
        else:
            error = task.exception()
        if attempt.handle is None:
            return  # abandoned before: settled already
        run_seconds = monotonic() - attempt.started
        self._ahead.ran(run_seconds)
        ended = Ended(
            run_seconds=run_seconds,
            cpu_seconds=meter.cpu_seconds,
            hold_seconds=meter.longest_hold,
            blocked_at=meter.blocked_at,
        )
        try:
            self._tell(attempt, task, error, ended)
        except BaseException as unforeseen:  # a job's own classes; its slot must come back
            ended.error = wire.error_record(unforeseen)
            if not isinstance(unforeseen, Exception):
                # Not by its own name: readers take CancelledError for what a person asked for.
                ended.error.message = f"{ended.error.type}({ended.error.message})"
                ended.error.type = JobExited.__name__
        self._leave(attempt, ended)

    def _tell(
        self,
        attempt: Attempt,
        task: asyncio.Task[Any],
        error: BaseException | None,
        ended: Ended,
    ) -> None:
        if attempt.verdict is Verdict.TIMED_OUT:
            ended.error = timed_out(attempt)
        elif isinstance(error, self._retry_error):
            ended.retry_in = _defer_seconds(error)
            ended.error = wire.error_record(error)
        elif error is not None:
            ended.error = wire.error_record(error)
            ended.retryable = not isinstance(error, BadArguments)
        else:
            self._encode(task.result(), ended)

    def _leave(self, attempt: Attempt, ended: Ended) -> None:
        """Report an attempt's end, and give its slot to the next one."""
        attempt.handle = None
        self._free += 1
        self._finish(attempt, ended)
        while self._ahead.attempts and self._free > 0:
            following, now = self._ahead.take(), monotonic()
            if now > following.deadline:  # its lease may have ended, and others may run it
                self._give_back(following)
                continue
            following.started_ms += round((now - following.started) * 1000)
            try:
                self._begin(following)
            except Exception as error:  # a job's own types may raise anything as they are made
                self._finish(following, Ended.before_start(error))

    def _give_back(self, attempt: Attempt) -> None:
        attempt.verdict = Verdict.RELEASED
        self._finish(attempt, Ended())

    def _encode(self, result: Any, ended: Ended) -> None:
        if result is None:
            return
        try:
            data = wire.dumps_readable(result)
        except NotEncodable as error:
            ended.error = wire.error_record(ResultNotEncodable(str(error)))
            ended.retryable = False
            return
        if len(data) > self._max_result_bytes:
            ended.error = wire.error_record(
                ResultTooLarge(
                    f"the result takes {len(data):,} bytes; the limit is {self._max_result_bytes:,}"
                )
            )
            ended.retryable = False
            return
        ended.result = data

    def _abandon(self, attempt: Attempt) -> None:
        """Take the slot from a job that does not let go; its task is left to end when it will."""
        if attempt.handle is None:
            return
        assert attempt.job is not None
        log.error(
            "job %s (%s) did not end within %g s of being cancelled; its slot is used again",
            attempt.id, attempt.job.name, CANCEL_GRACE_SECONDS,
        )  # fmt: skip
        ended = Ended(run_seconds=monotonic() - attempt.started, error=timed_out(attempt))
        self._leave(attempt, ended)


class _Call:
    """How a job's function is called: with its context or without, awaited or not."""

    def __init__(self, job: Job) -> None:
        self.signature = Signature(job)
        self.must_convert = self.signature.must_convert
        self.wants_ctx = job.wants_ctx
        self.is_coroutine = job.is_coroutine
        self._function = job.function

    def __call__(
        self, ctx: dict[str, Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        try:
            if self.wants_ctx:
                return self._function(ctx, *args, **kwargs)
            return self._function(*args, **kwargs)
        except TypeError:
            self.signature.check_fit(args, kwargs)
            raise


def _defer_seconds(error: BaseException) -> float:
    """When the job asks to be tried again; at once where what it says is no time."""
    try:
        seconds = float(getattr(error, "defer_score", None) or 0) / 1000
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(seconds, LONGEST_DEFER_SECONDS) if seconds > 0 else 0.0


def timed_out(attempt: Attempt) -> wire.ErrorRecord:
    assert attempt.job is not None
    return wire.error_record(
        JobTimeout(
            f"ran longer than its timeout of {attempt.job.timeout:g} s; raise @job(timeout=…)"
        )
    )
