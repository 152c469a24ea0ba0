"""Runs an arq application's jobs: ``arq.worker.Worker``, with everything between it and Redis new.

Purpose: the application's functions, hooks, cron jobs and log lines as in arq, with batches,
leases and fences in the place of a look at every job by every worker.
Guarantees: every claimed job is finished, retried or given back, or its lease ends and another
worker claims it; an attempt that lost its lease changes nothing; no key but arq's own is written.
Assumptions: one event loop, the one that the worker was made in. What arq documents of its worker
is kept; what of its insides applications and arq's own tests touch (``tasks``, ``start_jobs``,
``_poll_iteration``) is kept too. ``docs/arq.md`` has what differs.

Longer than a module should be: arq's worker is one class, whose methods people override and call.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import socket
from collections.abc import Sequence
from time import monotonic
from typing import Any, ClassVar, Final

import arq.connections
import arq.constants
import arq.jobs
import arq.typing
import arq.utils
import arq.worker

from twolane import keys
from twolane.fleet import Heartbeat
from twolane.store import MAX_CLAIM, RENEW, ClaimedJob, Store
from worker.acknowledger import BROKER_AWAY
from worker.arq import instrumented
from worker.arq.attempt import Attempt, outcome_of
from worker.arq.client import PoliteChannel, blocking_client
from worker.arq.listener import Listener, listening
from worker.arq.renewer import LoopRenewer
from worker.arq.settler import FOR_GOOD, Ending, Settler
from worker.backoff import Reconnection
from worker.key_types import KeyTypes, is_wrong_type, of_queue
from worker.recorder import MAX_KEEP_MS
from worker.watch import Watch

log = logging.getLogger("arq.worker")

LEASE_SECONDS: Final = 10.0
# How long the end waits for a broker that is away; leases give back what is not told by then.
FAREWELL_SECONDS: Final = 8.0
# arq never forgets an abort that nobody answered; a day is as long as its jobs live by default.
ABORT_KEEP_MS: Final = 86_400_000
ABORTS_READ: Final = 1_000
# arq's Job.abort moves a deferred job to this place first, and then asks for its abort; a worker
# that is woken by the move must wait for the request.
ABORTED_PLACE: Final = 1
ABORT_LAG_SECONDS: Final = 0.1
# How long a worker that is woken for nothing, since others were faster, is deaf at the most.
PAUSE_SECONDS: Final = 0.05
RETRY_KEY_SECONDS: Final = 88_400  # arq's


class Worker(arq.worker.Worker):
    """Stands in for ``arq.worker.Worker``: the same arguments, and ``lease``.

    ``lease`` (seconds or a timedelta, default 10 s) is after how long the jobs of a worker that
    was killed run again; a thread of its own renews it while the worker lives.
    """

    __signature__: ClassVar[inspect.Signature]

    def __init__(
        self,
        functions: Sequence[Any] = (),
        *,
        lease: arq.typing.SecondsTimedelta = LEASE_SECONDS,
        **options: Any,
    ) -> None:
        super().__init__(functions, **options)
        self.lease_ms = arq.utils.to_ms(lease)
        if self.lease_ms < 500:
            raise ValueError(f"lease is {lease!r}; it must be half a second or more")
        self.name = f"arq-{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}"
        self._attempts: dict[str, Attempt] = {}  # what occupies a slot
        self._held: dict[str, Attempt] = {}  # what is leased: claimed, and not told to be over
        self._hooks = 0  # attempts that are over, but for their after_job_end
        self._claims = 0
        self._claiming: asyncio.Task[Any] | None = None
        self._store: Store | None = None
        self._settler: Settler | None = None
        self._watch: Watch | LoopRenewer | None = None
        self._work = asyncio.Event()
        self._more = False
        self._next_due_s: float | None = None
        self._aborts_read_at = float("-inf")
        self._key_types = KeyTypes(of_queue(self.queue_name))
        self._listener: Listener | None = None
        # Whether the listener called, and whether that may have been for what we did ourselves.
        self._was_called = self._has_written = False
        self._pause_s = 0.0

    # -- what arq documents ----------------------------------------------------------------------

    async def main(self) -> None:
        """Run jobs until cancelled; with ``burst``, until the queue is empty.

        An outage is waited out. Raises what ``arq.create_pool`` does, for want of a server at the
        start.
        """
        if self._pool is None:
            self._pool = await arq.connections.create_pool(
                self.redis_settings,
                job_deserializer=self.job_deserializer,
                job_serializer=self.job_serializer,
                default_queue_name=self.queue_name,
                expires_extra_ms=self.expires_extra_ms,
            )
        log.info(
            "Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions)
        )
        await arq.connections.log_redis_info(self.pool, log.info)
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        if self.burst or self.poll_delay_s <= 0:
            await self._poll()  # it looks for work all the time, or ends when there is none
            return
        watched = [self.queue_name, keys.ABORTS] if self.allow_abort_jobs else [self.queue_name]
        async with listening(
            Listener(self.pool, self.queue_name, watched, self._changed)
        ) as self._listener:
            await self._poll()

    async def close(self) -> None:
        """Wait for the running jobs' ends and tell them, call ``on_shutdown``, disconnect."""
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if not self._pool:
            return
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                if self._claiming is not None:
                    await asyncio.wait([self._claiming])
                if self._settler is not None:
                    await self._settler.wait_told()
                await self.pool.delete(self.health_check_key)
        except (TimeoutError, *BROKER_AWAY) as error:
            log.warning("broker away at the end (%s); leases give back what it was not told",
                        type(error).__name__)  # fmt: skip
        if self._settler is not None:
            await self._settler.aclose()
        if self._watch is not None:
            self._watch.close()
        self._store = self._settler = self._watch = None
        self._held.clear()
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None

    def _free_slots(self) -> int:
        # As in arq, what a job does at its very end is part of it.
        return self.max_jobs - len(self._attempts) - self._hooks

    def _jobs_started(self) -> int:
        # A task that waits for its result to be recorded is counted as complete already.
        return self.jobs_complete + self.jobs_retried + self.jobs_failed + len(self._attempts)

    # -- the main loop ---------------------------------------------------------------------------

    async def _poll(self) -> None:
        reconnection = Reconnection("polling the queue")
        while True:
            self._work.clear()
            try:
                await self._poll_iteration()
                if self.burst and await self._burst_is_over():
                    return
            except BROKER_AWAY as error:
                if is_wrong_type(error):
                    with contextlib.suppress(*BROKER_AWAY):
                        await self._look_at_keys()
                await reconnection.wait(error)
                continue
            reconnection.succeeded()
            await self._wait_for_work()

    async def _look_at_keys(self) -> None:
        async with self.pool.pipeline(transaction=False) as pipe:
            self._key_types.ask(pipe)
            self._key_types.answered(await pipe.execute())

    def _changed(self, changed: list[bytes]) -> None:
        if keys.ABORTS.encode() in changed:
            self._aborts_read_at = float("-inf")
        self._was_called = True
        self._work.set()

    async def _poll_iteration(self) -> None:
        """Claim and start what is due and fits, look for aborts, keep health and cron going."""
        count = min(self.queue_read_limit, MAX_CLAIM, self._free_slots())
        # What the server does not take must not pile up.
        count = min(count, 4 * self.max_jobs - len(self._held))
        if self.burst and self.max_burst_jobs >= 0:
            count = min(count, self.max_burst_jobs - self._jobs_started())
            if count < 1 and not self._attempts:
                return
        self._more, self._next_due_s = False, None
        if self.allow_pick_jobs and count > 0:
            await self._claim(count)
        if self.allow_abort_jobs:
            await self._cancel_aborted_jobs()
        await self.heart_beat()

    async def _claim(self, count: int) -> None:
        self._open()
        assert self._store is not None
        self._claims += 1
        fence = f"{self.name}:{self._claims}"
        asked_at = monotonic()
        # A claim whose answer nobody takes would keep its jobs waiting for the end of their leases.
        self._claiming = self.loop.create_task(
            self._store.claim(self.queue_name, fence, count, self.lease_ms)
        )
        try:
            claim = await asyncio.shield(self._claiming)
        except asyncio.CancelledError:
            self._claiming.add_done_callback(self._give_back)
            raise
        left_s = asked_at + self.lease_ms / 1000 - monotonic()
        if left_s < 0:
            # A job held up the loop for longer than the lease: others may run these by now.
            self._release(claim.jobs)
        else:
            for one in claim.jobs:
                self._start(one)
            if self._watch is not None and left_s < self.lease_ms / 2000:
                self._watch.hurry()  # the next renewal may be too late for these
        self._more = len(claim.jobs) == count
        if claim.jobs:
            self._pause_s, self._has_written = 0.0, True
        elif self._was_called and not self._has_written:
            self._pause_s = min(2 * self._pause_s + 0.001, PAUSE_SECONDS)
        self._was_called = False
        if claim.next_due_ms is not None:
            # A lease's key lives to the end of its last millisecond; timers go off early by one.
            self._next_due_s = max(0.0, (claim.next_due_ms - claim.now_ms + 2) / 1000)

    def _give_back(self, claiming: asyncio.Task[Any]) -> None:
        if not claiming.cancelled() and claiming.exception() is None and self._settler is not None:
            self._release(claiming.result().jobs)

    def _release(self, jobs: Sequence[ClaimedJob]) -> None:
        for one in jobs:
            self._tell(Ending(one.id, one.fence, "release", b"", one.due_ms))

    def _open(self) -> None:
        """Make what works on the pool; the pool may be there from the beginning, or from `main`."""
        if self._settler is not None:
            return
        self._store = Store(self.pool, PoliteChannel(self.pool))
        self._settler = Settler(self.pool, self.queue_name, self._told)

    async def _wait_for_work(self) -> None:
        is_free = self._free_slots() > 0
        if self._more and is_free:
            await asyncio.sleep(0)  # the jobs' first steps come before the next claim
            return
        timeout = self.poll_delay_s
        if self._next_due_s is not None and is_free:
            timeout = min(timeout, self._next_due_s)
        if timeout <= 0:
            await asyncio.sleep(0)
            return
        listener = self._listener
        if listener is not None and listener.is_unarmed and (is_free or self.allow_abort_jobs):
            if self._pause_s:
                await self._wait(min(timeout, self._pause_s))
            self._has_written = False
            if await listener.arm():
                return  # to look once more: what came before was not told
        await self._wait(timeout)

    async def _wait(self, seconds: float) -> None:
        timer = self.loop.call_later(seconds, self._work.set)
        try:
            await self._work.wait()
        finally:
            timer.cancel()

    async def _burst_is_over(self) -> bool:
        if not 0 <= self.max_burst_jobs <= self._jobs_started():
            if self._more or self._attempts:
                return False
            if self._settler is not None:
                await self._settler.wait_told()
            if await self.pool.zcard(self.queue_name):
                return False
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        if self._settler is not None:
            await self._settler.wait_told()
        return True

    async def _cancel_aborted_jobs(self) -> None:
        """Cancel those of the running jobs of which the abort was asked for."""
        if not self.job_tasks or monotonic() < self._aborts_read_at + self.poll_delay_s:
            return
        self._aborts_read_at = monotonic()
        async with self.pool.pipeline(transaction=False) as pipe:
            # The latest: requests that came too late for their jobs stay for a day.
            pipe.zrevrange(keys.ABORTS, 0, ABORTS_READ - 1)
            pipe.zremrangebyscore(keys.ABORTS, "-inf", arq.utils.timestamp_ms() - ABORT_KEEP_MS)
            self._key_types.ask(pipe)
            wanted, _, *types = await pipe.execute(raise_on_error=False)
        self._key_types.answered(types)
        if is_wrong_type(wanted):
            return
        if isinstance(wanted, Exception):
            raise wanted
        for job_id in map(keys.id_of, wanted):
            task = self.job_tasks.get(job_id)
            if task is not None and job_id not in self.aborting_tasks:
                self.aborting_tasks.add(job_id)
                task.cancel()

    async def run_cron(self, n: Any, delay: float, num_windows: int = 2) -> None:
        """As in arq; what an outage kept from being enqueued is enqueued after it."""
        planned = [(job, job.next_run) for job in self.cron_jobs]
        try:
            await super().run_cron(n, delay, num_windows)
        except BROKER_AWAY:
            for job, next_run in planned:
                job.next_run = next_run
            raise

    # -- one attempt -----------------------------------------------------------------------------

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claim and start these jobs, as far as they are due, free and fit.

        arq's own main loop works through this method; here nothing but applications call it.
        """
        self._open()
        for job_id in map(keys.id_of, job_ids):
            if self._free_slots() < 1:
                return
            self._claims += 1
            fence = f"{self.name}:{self._claims}".encode()
            held = keys.in_progress(job_id)
            if not await self.pool.set(held, fence, px=self.lease_ms, nx=True):
                log.debug("job %s already running elsewhere", job_id)
                continue
            score = await self.pool.zscore(self.queue_name, job_id)
            if not score or score > arq.utils.timestamp_ms():
                await self.pool.delete(held)
                log.debug("job %s already running elsewhere", job_id)
                continue
            async with self.pool.pipeline(transaction=True) as pipe:
                pipe.get(keys.job(job_id))
                pipe.incr(keys.retry(job_id))
                pipe.expire(keys.retry(job_id), RETRY_KEY_SECONDS)
                pipe.zscore(keys.ABORTS, job_id)
                payload, try_, _, abort = await pipe.execute()
            self._start(ClaimedJob(job_id, payload, try_, int(score), bool(abort), fence))

    def _start(self, claimed: ClaimedJob) -> None:
        attempt = Attempt(claimed, arq.utils.timestamp_ms())
        stale = self._attempts.get(claimed.id)
        if stale is not None:
            self._lose(stale)  # our own lease on it ended, and this very worker claimed it again
        self._held[claimed.id] = attempt
        failure = self._admit(attempt, claimed)
        if failure is not None:
            self.jobs_failed += 1
            self._fail(attempt, failure)
            return
        if self._watch is None:
            self._start_watch()
        self._attempts[attempt.id] = attempt
        self.job_counter += 1
        task = attempt.task = self.loop.create_task(self.run_job(attempt.id, attempt.due_ms))
        self.tasks[attempt.id] = task
        task.add_done_callback(attempt.ended(self._ended))

    def _admit(self, attempt: Attempt, claimed: ClaimedJob) -> BaseException | None:
        """Fill in what the attempt runs; returns what it fails with where it cannot."""
        if not claimed.payload:
            log.warning("job %s expired", attempt.id)
            return arq.worker.JobExecutionFailed("job expired")
        try:
            wanted_try = attempt.read(claimed.payload, self.job_deserializer)
        except arq.jobs.SerializationError as error:
            log.exception("deserializing job %s failed", attempt.id)
            return error
        if claimed.abort and self.allow_abort_jobs:
            return self._aborted(attempt)
        function = self.functions.get(attempt.name)
        if function is None:
            log.warning("job %s, function %r not found", attempt.id, attempt.name)
            return arq.worker.JobExecutionFailed(f"function {attempt.name!r} not found")
        attempt.function = function
        if hasattr(function, "next_run"):  # a cron job
            attempt.ref = attempt.name
            attempt.hold_ms = arq.utils.to_ms(vars(arq.worker)["keep_cronjob_progress"])
        else:
            attempt.ref = f"{attempt.id}:{attempt.name}"
        if wanted_try and wanted_try > attempt.try_:
            attempt.try_, attempt.must_set_try = wanted_try, True
        max_tries = self.max_tries if function.max_tries is None else function.max_tries
        if attempt.try_ > max_tries:
            seconds = (arq.utils.timestamp_ms() - attempt.enqueued_ms) / 1000
            log.warning("%6.2fs ! %s max retries %d exceeded", seconds, attempt.ref, max_tries)
            return arq.worker.JobExecutionFailed(f"max {max_tries} retries exceeded")
        return None

    def _aborted(self, attempt: Attempt) -> BaseException:
        seconds = (arq.utils.timestamp_ms() - attempt.enqueued_ms) / 1000
        log.info("%6.2fs ⊘ %s:%s aborted before start", seconds, attempt.id, attempt.name)
        return asyncio.CancelledError()

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        """Finish a job that cannot be started."""
        attempt.ref = f"{attempt.id}:{attempt.name}"
        result = b""
        if self.keep_result_forever or (self.keep_result_s or 0) > 0:
            result = self._serialize(attempt, False, error, attempt.claimed_ms)
        self._finish(attempt, result, self.keep_result_forever, self.keep_result_s, hold_ms=0)

    async def _abort_follows(self, attempt: Attempt) -> bool:
        """Whether a job at the place of aborted ones is one: the request comes after the move."""
        await asyncio.sleep(ABORT_LAG_SECONDS)
        with contextlib.suppress(*BROKER_AWAY):
            return await self.pool.zscore(keys.ABORTS, attempt.id) is not None
        return False

    async def run_claimed(self, job_id: str) -> None:
        """Run a job that was claimed. ``run_job``, and what is wrapped around it, ends up here."""
        await self._run(self._attempts[job_id])

    async def _run(self, attempt: Attempt) -> None:
        may_be_aborted = self.allow_abort_jobs and attempt.due_ms == ABORTED_PLACE
        if may_be_aborted and await self._abort_follows(attempt):
            attempt.has_begun = True
            self.jobs_failed += 1
            self._fail(attempt, self._aborted(attempt))
            self._free(attempt)
            return
        if attempt.must_set_try:
            with contextlib.suppress(*BROKER_AWAY):  # its retry tells it again
                await self.pool.setex(keys.retry(attempt.id), RETRY_KEY_SECONDS, attempt.try_)
        attempt.has_begun = True
        function = attempt.function
        timeout_s = self.job_timeout_s if function.timeout_s is None else function.timeout_s
        ctx = {
            **self.ctx,
            "job_id": attempt.id,
            "job_try": attempt.try_,
            "enqueue_time": arq.utils.ms_to_datetime(attempt.enqueued_ms),
            "score": attempt.due_ms,
        }
        outcome = await outcome_of(self, attempt, ctx, timeout_s)
        if attempt.is_lost:
            return
        cancelled = False
        if self.on_job_end:
            # What ended, ended: neither a hook's error nor a signal's cancellation undoes it.
            try:
                await self.on_job_end(ctx)
            except asyncio.CancelledError:
                cancelled = True
            except Exception:  # whatever the application's code raises
                log.exception("on_job_end of %s failed", attempt.ref)
        told = self.loop.create_future() if self.after_job_end and not cancelled else None
        attempt.told = told
        if outcome.is_final:
            forever, keep_s = function.keep_result_forever, function.keep_result_s
            forever = self.keep_result_forever if forever is None else forever
            keep_s = self.keep_result_s if keep_s is None else keep_s
            result = b""
            if forever or (keep_s or 0) > 0:
                result = self._serialize(
                    attempt, outcome.success, outcome.result, outcome.started_ms,
                    outcome.finished_ms,
                )  # fmt: skip
            self._finish(attempt, result, forever, keep_s, hold_ms=attempt.hold_ms)
        else:
            due = f"+{outcome.defer_ms}" if outcome.defer_ms else attempt.due_ms
            self._tell(
                Ending(attempt.id, attempt.fence, "retry", attempt.try_, due, attempt.hold_ms)
            )
        self._free(attempt)
        if told is not None:
            await self._tell_after(attempt, ctx, told)

    async def _tell_after(
        self, attempt: Attempt, ctx: dict[Any, Any], told: asyncio.Future[bool]
    ) -> None:
        """Call the application's ``after_job_end`` once the outcome is recorded, if it is."""
        assert self.after_job_end is not None
        self._hooks += 1
        try:
            main = self.main_task
            is_ending = main is not None and (main.done() or main.cancelling() > 0)
            await asyncio.wait([told], timeout=FAREWELL_SECONDS if is_ending else None)
            if told.done() and told.result():
                await self.after_job_end(ctx)
        except asyncio.CancelledError:
            return
        except Exception:  # whatever the application's code raises
            log.exception("after_job_end of %s failed", attempt.ref)
        finally:
            self._hooks -= 1
            self._work.set()

    def _serialize(
        self,
        attempt: Attempt,
        success: bool,
        result: Any,
        started_ms: int,
        finished_ms: int | None = None,
    ) -> bytes:
        data = arq.jobs.serialize_result(
            attempt.name, attempt.args, attempt.kwargs, attempt.try_, attempt.enqueued_ms, success,
            result, started_ms, finished_ms or arq.utils.timestamp_ms(), attempt.ref,
            self.queue_name, job_id=attempt.id, serializer=self.job_serializer,
        )  # fmt: skip
        return data or b""

    def _finish(
        self, attempt: Attempt, result: bytes, forever: bool, keep_s: float | None, *, hold_ms: int
    ) -> None:
        keep_ms = FOR_GOOD
        if not forever and keep_s is not None:
            keep_ms = min(arq.utils.to_ms(keep_s), MAX_KEEP_MS)
        if keep_ms == 0:
            result = b""  # a part of a millisecond, which the server does not take
        self._tell(Ending(attempt.id, attempt.fence, "finish", result, keep_ms, hold_ms))

    def _tell(self, ending: Ending) -> None:
        assert self._settler is not None
        self._settler.tell(ending)

    def _free(self, attempt: Attempt) -> None:
        """Give the attempt's slot to the next one; it may still have its result to be told."""
        if self._attempts.get(attempt.id) is attempt:
            del self._attempts[attempt.id]
            self.job_counter -= 1
            self._work.set()

    def _ended(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        if self.tasks.get(attempt.id) is task:
            del self.tasks[attempt.id]
            self.aborting_tasks.discard(attempt.id)
        self._free(attempt)
        if not attempt.has_begun and not attempt.is_lost and self._settler is not None:
            # Cancelled before its first step: nothing of the job has run.
            self._tell(Ending(attempt.id, attempt.fence, "release", b"", attempt.due_ms))
        elif not task.cancelled() and task.exception() is not None:
            log.error("job %s: the worker failed it", attempt.ref, exc_info=task.exception())
            if self._held.get(attempt.id) is attempt:
                del self._held[attempt.id]  # its lease ends, and its tries run out

    # -- leases ----------------------------------------------------------------------------------

    def _start_watch(self) -> None:
        assert self._store is not None
        # A reply that takes longer than half a lease is as good as none.
        client = blocking_client(self.pool, self.lease_ms / 2000)
        if client is None:
            self._watch = LoopRenewer(
                self._store, self.queue_name, self.lease_ms, self._leased, self._lost
            )
            self._watch.start()
            return
        loop = self.loop

        def lost(leases: list[tuple[str, bytes]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
                loop.call_soon_threadsafe(self._lost, leases)

        self._watch = Watch(
            client, RENEW, self.queue_name, self.lease_ms, self._leased, lost, None,
            Heartbeat(worker=self.name, lane="io", host="", pid=os.getpid()),
        )  # fmt: skip
        self._watch.start()

    def _leased(self) -> list[Attempt]:
        """What must stay leased. May be called from any thread: the copy is one bytecode."""
        return list(self._held.values())

    def _lost(self, leases: list[tuple[str, bytes]]) -> None:
        for job_id, fence in leases:
            attempt = self._held.get(job_id)
            if attempt is not None and attempt.fence == fence and job_id in self._attempts:
                log.warning("lost the lease of job %s; stopping it here", job_id)
                self._lose(attempt)

    def _lose(self, attempt: Attempt) -> None:
        attempt.is_lost = True
        if self._held.get(attempt.id) is attempt:
            del self._held[attempt.id]
        if attempt.task is not None:
            attempt.task.cancel()

    def _told(self, endings: Sequence[Ending], fenced: list[str]) -> None:
        refused = set(fenced)
        self._has_written = True
        for ending in endings:
            attempt = self._held.get(ending.id)
            if attempt is None or attempt.fence != ending.fence:
                continue
            del self._held[ending.id]
            if attempt.told is not None and not attempt.told.done():
                attempt.told.set_result(ending.id not in refused)
        if fenced:
            log.warning(
                "%d outcomes refused: their leases had ended (%s …)", len(fenced), fenced[0]
            )


def _signature() -> inspect.Signature:
    """arq's own parameters, whatever its version has, and ours: its settings are read by them."""
    theirs = inspect.signature(arq.worker.Worker)
    ours = inspect.signature(Worker.__init__).parameters["lease"]
    return theirs.replace(parameters=[*theirs.parameters.values(), ours])


Worker.__signature__ = _signature()


def create_worker(settings_cls: arq.typing.WorkerSettingsType, **options: Any) -> Worker:
    """A worker of an application's settings: the class's own attributes, as in arq."""
    return instrumented.create_worker(Worker, settings_cls, options)


def run_worker(settings_cls: arq.typing.WorkerSettingsType, **options: Any) -> Worker:
    """Make a worker and run it until its end; returns it."""
    worker = create_worker(settings_cls, **options)
    worker.run()
    return worker
