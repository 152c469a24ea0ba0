"""Claims jobs, has them run, and settles them: the one subclass of ``arq.worker.Worker``.

Purpose: keep a worker's slots filled with jobs that are due, and see each of them to its end.
Guarantees: no more jobs are claimed than can start now (where jobs are short, than can start within
some milliseconds), and no more than four times as many are held untold; every
claimed job is settled, retried or released, or its lease ends and another worker claims it; an
attempt that lost its lease changes nothing. Assumptions: one engine an event loop; ``lane`` reports
each attempt's end exactly once.

Longer than a module should be: all of it reads and writes the same books of what is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import random
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, Protocol

import arq.connections
import arq.worker
from redis.asyncio import Redis

from twolane import keys, wire
from twolane.channel import Channel
from twolane.errors import JobDefinitionError
from twolane.fleet import Heartbeat
from twolane.histogram import Histogram
from twolane.keys import Lane
from twolane.registry import Hook, Registry
from twolane.store import Claim, ClaimedJob, Kind, Request, Store
from worker.acknowledger import BROKER_AWAY, Acknowledger
from worker.admission import Admission
from worker.attempt import Attempt, Ended, Verdict
from worker.exchange import CONVERSATIONS, PORTION, Exchange
from worker.recorder import Recorder, one_line

log = logging.getLogger("twolane.worker")
Retry = arq.worker.Retry

LEASE_MS: Final = 10_000
# Producers that only speak arq publish nothing; this is arq's own poll_delay.
POLL_SECONDS: Final = 0.5
# A job whose workers die under it is given up after this many tries, or after its own number of
# tries where that is higher; arq's default.
MAX_TRIES: Final = 5
# How long a job at its last chance goes back to the queue while another one has its own here.
TRIAL_MS: Final = 250


# Arbitrary: a claim of large payloads (CALL_BYTES of twolane/messages.py) takes its time to arrive.
MIN_REPLY_SECONDS: Final = 5.0


def reply_seconds(lease_ms: int) -> float:
    """How long a reply is waited for. A connection can die without a word; then it is an outage."""
    return max(MIN_REPLY_SECONDS, 1.5 * lease_ms / 1000)


class LaneRunner(Protocol):
    """What runs attempts: :class:`worker.io.IoLane` or :class:`worker.cpu.CpuLane`."""

    def start(self, attempt: Attempt) -> None: ...
    def ahead(self) -> int: ...
    def stop(self, attempt: Attempt, verdict: Verdict) -> None: ...
    def helpers(self) -> Iterable[int]: ...
    async def close(self) -> None: ...


class Engine(arq.worker.Worker):
    """A worker of one lane; :meth:`main` runs until :meth:`drain`.

    ``client`` is the broker's client. ``ctx['redis']`` (an ``ArqRedis``, so that jobs can enqueue
    in arq's way) shares its connections, or those of ``jobs_client`` where that is given.
    """

    def __init__(
        self,
        registry: Registry,
        lane: Lane,
        client: Redis,
        beat: Heartbeat,
        *,
        slots: int,
        ctx: dict[str, Any] | None = None,
        lease_ms: int = LEASE_MS,
        burst: bool = False,
        jobs_client: Redis | None = None,
    ) -> None:
        super().__init__(
            [
                arq.worker.Function(
                    job.name, job.function, job.timeout, job.keep_result, None, None
                )
                for job in registry
            ],
            queue_name=keys.QUEUES[lane],
            redis_pool=arq.connections.ArqRedis(
                (jobs_client or client).connection_pool, wire.dumps, wire.loads, keys.QUEUES[lane]
            ),
            max_jobs=slots,
            burst=burst,
            ctx=ctx if ctx is not None else {},
            handle_signals=False,
            poll_delay=POLL_SECONDS,
            max_tries=MAX_TRIES,
            job_serializer=wire.dumps,
            job_deserializer=wire.loads,
        )
        self.ctx["redis"] = self.pool
        self.registry = registry
        self.lane = lane
        self.lease_ms = lease_ms
        self.slots = slots
        self._channel = Channel(client, reply_seconds(lease_ms))
        self.store = Store(client, self._channel)
        self.beat = beat
        self.runner: LaneRunner | None = None
        self.acknowledger = Acknowledger(self._told, self._count_fenced)
        self.exchange = Exchange(
            self.store, self.queue_name, self.acknowledger, self, reply_seconds(lease_ms)
        )
        self._admission = Admission(registry, lane, MAX_TRIES)
        self._recorder = Recorder(lane, beat.worker)
        self.running: dict[str, Attempt] = {}
        self.draining = False
        # What is claimed and not yet told to be over, for the renewal thread. An attempt
        # that was lost may be followed here by another one at the same job, so fences are compared.
        self._held: dict[str, Attempt] = {}
        # The one job at its last chance that may run here now: its neighbours in the crashes of
        # earlier workers must not go down with it once more. They are handed back before it begins.
        self._on_trial: Attempt | None = None
        self._handing_back: set[str] = set()
        self._waits, self._runs = Histogram(), Histogram()
        self._claims = 0
        self._asked = 0  # slots for which jobs were asked and no answer came yet
        self._hungry = False  # whether there may be jobs to claim
        self._plenty = False  # whether the latest claim got all it asked for; then both may ask
        self._reply_ms = round(1000 * reply_seconds(lease_ms))
        self._claim_lease_ms = lease_ms
        self._said_late = False
        self._woken = False  # whether a wake-up call came since the last request
        self._waking: asyncio.TimerHandle | None = None
        self._server_ms_at = 0.0
        # Renews all leases at once. Set by who has the renewal thread, before the first claim.
        self.on_late: Callable[[], None] = lambda: None
        self._drained = asyncio.Event()
        self._dry = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        beat.slots = slots

    # -- the clock and the books -----------------------------------------------------------------

    def now_ms(self) -> int:
        """The server's time now, as of the latest claim."""
        return int(self._server_ms_at + monotonic() * 1000)

    def held(self) -> list[Attempt]:
        """What must stay leased. May be called from any thread: the copy is one bytecode."""
        return list(self._held.values())

    def report(self, beat: Heartbeat) -> None:
        beat.busy = min(len(self.running), self.slots)
        beat.done, beat.failed = self.jobs_complete, self.jobs_failed
        beat.retried, beat.draining = self.jobs_retried, self.draining
        beat.at_ms = self.now_ms()
        beat.wait, beat.run = self._waits.buckets, self._runs.buckets

    def wake(self) -> None:
        """Look for work now, rather than at the next poll."""
        self._hungry = self._woken = True
        self._notice()

    def _notice(self) -> None:
        self.exchange.notice()

    # -- claiming --------------------------------------------------------------------------------

    async def main(self) -> None:
        """Claim and start jobs until drained; with ``burst``, until the queue is empty.

        Runs beside :attr:`conversations`, which do it.
        """
        assert self.runner is not None
        log.info(
            "worker %s: %d slots, %d jobs known", self.beat.worker, self.slots, len(self.registry)
        )
        self.wake()
        if self.burst:
            # A signal ends it too while the broker is away and something is left to tell.
            waits = [self._wait_burst_over(), self._drained.wait()]
            tasks = [self.loop.create_task(one) for one in waits]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[0].done():
                    tasks[0].result()
            finally:
                for one in tasks:
                    one.cancel()
        else:
            await self._drained.wait()

    @property
    def conversations(self) -> list[Exchange]:
        """What is to be run beside :meth:`main`, and beyond it until all is told."""
        return [self.exchange] * CONVERSATIONS

    def next_request(self) -> Request | None:
        """As many jobs as can start now or soon, in two portions.

        With half of them at once, the server looks for the one half while this loop runs the other.
        """
        if self.draining or not self._hungry or (self._asked and not self._plenty):
            return None
        assert self.runner is not None
        places = self.slots + self.runner.ahead()
        # What the store refuses must not pile up: no more than four times the slots.
        free = min(places - len(self.running), 4 * self.slots - len(self._held)) - self._asked
        # One at the least: what has ended is told also where nothing can start.
        self.exchange.portion = max(1, min(PORTION, -(-places // CONVERSATIONS)))
        count = min(free, self.exchange.portion)
        if count <= 0:
            return None
        self._woken = False
        self._claims += 1
        self._asked += count
        fence = f"{self.beat.worker}:{self._claims}"
        return Request(fence, count, self._claim_lease_ms, self.beat.fleet, monotonic())

    def answered(self, request: Request, claim: Claim | None) -> None:
        """Start what was claimed."""
        self._asked -= request.limit
        if claim is None:
            return
        self._server_ms_at = claim.now_ms - monotonic() * 1000
        if not self.beat.started_ms:
            self.beat.started_ms = claim.now_ms
        # A loop that was held for longer than the lease: others may run these jobs by now.
        took_ms = math.ceil((monotonic() - request.asked_at) * 1000)
        is_stale = took_ms > request.lease_ms
        # Answers that are slow must come in time all the same: each one that does not costs its
        # jobs a try. The first renewal makes the lease what it is to be.
        slow_ms = took_ms if 2 * took_ms > self.lease_ms else 0
        self._claim_lease_ms = self.lease_ms + min(slow_ms, self._reply_ms)
        if is_stale and claim.jobs and not self._said_late:
            self._said_late = True
            log.warning(
                "%d jobs came %.1f s after they were asked for, when their leases of %g s had "
                "ended; they are handed back. The way to the broker is slow, or a job held the "
                "event loop. If it stays so, start the worker with a longer --lease",
                len(claim.jobs), took_ms / 1000, request.lease_ms / 1000,
            )  # fmt: skip
        for one in claim.jobs:
            if self.draining or is_stale:  # the claim was on its way when that began
                self.acknowledger.release(one.id, one.fence, one.due_ms)
            else:
                self._start(one, claim.now_ms)
        # The next renewal, a quarter of the lease and a look at the loop away, may be too late.
        if claim.jobs and 2 * (request.lease_ms - took_ms) < self.lease_ms:
            self.on_late()
        self._begin_trial()
        self._plenty = len(claim.jobs) == request.limit
        if self._plenty:
            self._hungry = True
            self._notice()
        elif not self._woken:
            self._rest(claim)

    def _rest(self, claim: Claim) -> None:
        """Ask no more until a wake-up call, the next job's time, or the next poll."""
        self._hungry = False
        timeout = self.poll_delay_s or POLL_SECONDS
        if claim.next_due_ms is not None:
            # A lease's key lives to the end of its last millisecond; timers go off early by one.
            timeout = min(timeout, max(0.0, (claim.next_due_ms - claim.now_ms + 2) / 1000))
        if self._waking is not None:
            self._waking.cancel()
        self._waking = self.loop.call_later(timeout, self.wake)
        if not claim.jobs and not self.running:
            self._dry.set()

    async def _wait_burst_over(self) -> None:
        while not self.draining:
            self._dry.clear()
            # Where no process can be started nothing is asked for, and no answer says it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._dry.wait()
            if self.running:
                continue
            await self.exchange.wait_quiet()
            with contextlib.suppress(*BROKER_AWAY):
                if not self.running and await self.store.client.zcard(self.queue_name) == 0:
                    self.drain()

    # -- one attempt -----------------------------------------------------------------------------

    def _start(self, claimed: ClaimedJob, now_ms: int) -> None:
        attempt = Attempt(claimed, now_ms)
        stale = self.running.get(claimed.id)
        if stale is not None:
            # Our own lease on it ended, and this very worker claimed it again.
            self._lose(stale)
        self.running[claimed.id] = self._held[claimed.id] = attempt
        self._empty.clear()
        try:
            self._admit(attempt, claimed)
        except Exception as error:
            self.finish(attempt, Ended.before_start(error))

    def _admit(self, attempt: Attempt, claimed: ClaimedJob) -> None:
        assert self.runner is not None
        self._admission.admit(attempt, claimed)
        if not self._admission.is_last_chance(attempt):
            self.runner.start(attempt)
        elif self._on_trial is None:
            self._on_trial = attempt  # started when the others are back in the queue
        else:
            self._handing_back.add(attempt.id)
            attempt.verdict, attempt.due_ms = Verdict.RELEASED, self.now_ms() + TRIAL_MS
            self.finish(attempt, Ended())

    def _begin_trial(self) -> None:
        """Start the job at its last chance, once all that was handed back for it is back.

        It may end this process with its first step, and what had not been told would not be known.
        """
        attempt, runner = self._on_trial, self.runner
        if attempt is None or attempt.started or self._handing_back or runner is None:
            return
        try:
            runner.start(attempt)
        except Exception as error:
            self.finish(attempt, Ended.before_start(error))

    def finish(self, attempt: Attempt, ended: Ended) -> None:
        """Settle an attempt that ended; called by the lane, once for each."""
        if self.running.get(attempt.id) is attempt:
            del self.running[attempt.id]
            if not self.running:
                self._empty.set()
        if self._on_trial is attempt:
            self._on_trial = None
        verdict = attempt.verdict
        if verdict is Verdict.LOST:
            self._notice()  # its slot is free
            return
        if verdict is Verdict.RELEASED:
            self.acknowledger.release(attempt.id, attempt.fence, attempt.due_ms)
            return
        job = attempt.job
        if verdict is Verdict.CANCELLED:
            self.jobs_failed += 1
            self._settle(attempt, ended, "cancelled")
        elif ended.error is None:
            self.jobs_complete += 1
            self._settle(attempt, ended, "done")
        elif ended.retry_in is not None and attempt.try_ < self._admission.tries(attempt.job):
            self._retry(attempt, ended, ended.retry_in)
        elif ended.retry_in is None and ended.retryable and job and attempt.try_ <= job.retries:
            self._retry(attempt, ended, job.backoff.seconds(attempt.try_, random.random()))
        else:
            self.jobs_failed += 1
            log.warning(
                "job %s (%s) failed at try %d: %s: %s", attempt.id, job.name if job else "?",
                attempt.try_, ended.error.type, one_line(ended.error.message),
            )  # fmt: skip
            self._settle(attempt, ended, "failed")

    def _retry(self, attempt: Attempt, ended: Ended, wait_seconds: float) -> None:
        self.jobs_retried += 1
        if log.isEnabledFor(logging.INFO) and ended.error is not None:
            log.info(
                "job %s: try %d failed (%s: %s); again in %.1f s", attempt.id, attempt.try_,
                ended.error.type, one_line(ended.error.message), wait_seconds,
            )  # fmt: skip
        self.acknowledger.retry(attempt.id, attempt.fence, int(wait_seconds * 1000))

    def _settle(self, attempt: Attempt, ended: Ended, kind: Kind) -> None:
        self._waits.add((attempt.started_ms - attempt.due_ms) / 1000)
        self._runs.add(ended.run_seconds)
        self.acknowledger.settle(self._recorder.settlement(attempt, ended, kind))

    # -- what comes from outside -----------------------------------------------------------------

    def _told(self, ids: list[str]) -> None:
        for job_id in ids:
            # A later attempt at the same job may have taken the place.
            if job_id not in self.running:
                self._held.pop(job_id, None)
        if self._handing_back:
            self._handing_back.difference_update(ids)
            self._begin_trial()

    def _count_fenced(self, ids: list[str]) -> None:
        self.beat.fenced += len(ids)
        log.warning("%d outcomes refused: their leases had ended (%s …)", len(ids), ids[0])

    def lost(self, leases: list[tuple[str, bytes]]) -> None:
        """Stop the attempts whose leases are gone; another worker may run their jobs already."""
        for job_id, fence in leases:
            attempt = self._held.get(job_id)
            if attempt is not None and attempt.fence == fence and job_id in self.running:
                self.beat.fenced += 1
                log.warning("lost the lease of job %s; stopping it here", job_id)
                self._lose(attempt)

    def _stop(self, attempt: Attempt, verdict: Verdict) -> None:
        assert self.runner is not None
        if attempt is self._on_trial and not attempt.started:
            attempt.verdict = verdict
            self.finish(attempt, Ended())
        else:
            self.runner.stop(attempt, verdict)

    def _lose(self, attempt: Attempt) -> None:
        assert self.runner is not None
        self._held.pop(attempt.id, None)
        self._stop(attempt, Verdict.LOST)

    async def cancel(self, ids: list[str]) -> None:
        """Cancel those of the jobs that run here; the others are somebody else's."""
        assert self.runner is not None
        for job_id in ids:
            attempt = self.running.get(job_id)
            if attempt is not None:
                self._stop(attempt, Verdict.CANCELLED)

    # -- the end ---------------------------------------------------------------------------------

    def drain(self) -> None:
        """Claim no more; :meth:`main` returns."""
        self.draining = True
        if self._waking is not None:
            self._waking.cancel()
        self._drained.set()
        self._dry.set()

    async def wait_empty(self, seconds: float) -> None:
        """Wait until no job runs here, for so long at the most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    async def settle_all(self, seconds: float = 8.0) -> None:
        """Release what still runs and tell the store everything.

        What cannot be told within ``seconds``, a little more than a job that swallows its
        cancellation is given, comes back by its lease.
        """
        assert self.runner is not None
        if self.running:
            log.warning("handing back %d jobs that have not ended", len(self.running))
        for attempt in list(self.running.values()):
            self._stop(attempt, Verdict.RELEASED)
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
                await self.exchange.wait_quiet()
        except TimeoutError:
            log.error("%d jobs could not be handed back; their leases will", len(self._held))

    async def aclose(self) -> None:
        """Close the connection that the conversations used."""
        await self._channel.aclose()

    async def call_hooks(self, hooks: list[Hook]) -> None:
        """Call a module's ``on_startup`` or ``on_shutdown`` with the context of the jobs.

        Raises:
            JobDefinitionError: one of them failed.
        """
        for hook in hooks:
            try:
                answer = hook(self.ctx)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:
                name = f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__name__', hook)}"
                raise JobDefinitionError(
                    f"{name} failed: {type(error).__name__}: {error}"
                ) from error
