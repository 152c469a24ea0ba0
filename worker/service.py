"""Wires a worker together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from redis.asyncio import Redis

from twolane import __version__, broker, keys, wire
from twolane.errors import JobDefinitionError
from twolane.keys import Lane
from twolane.registry import Registry
from twolane.store import RENEW
from worker import health
from worker.acknowledger import BROKER_AWAY
from worker.engine import LEASE_MS, Engine, LaneRunner, Retry, reply_seconds
from worker.heartbeat import Pulse, identify
from worker.meter import Gauge
from worker.waker import Waker
from worker.watch import Watch

log = logging.getLogger("twolane.worker")
CANCEL_AGAIN_SECONDS: Final = 0.5
# What a hook may take once the process that started this one is gone; nobody can say stop twice.
ORPHAN_HOOK_SECONDS: Final = 5.0
# What may go on beyond the grace then, s: more than handing back, the hooks and the goodbye take.
ORPHAN_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Settings:
    """What a worker is told. ``slots`` is the concurrency (IO) or the processes (CPU).

    ``with_parent`` is for a worker that another process started with a pipe as standard input: it
    drains when that ends.
    """

    url: str
    lane: Lane
    modules: tuple[str, ...]
    slots: int
    grace_seconds: float = 30.0
    lease_ms: int = LEASE_MS
    burst: bool = False
    context: dict[str, Any] = field(default_factory=dict)
    max_memory_bytes: int | None = None
    max_jobs_per_process: int | None = None
    with_parent: bool = False
    health_file: Path | None = None


class Stop:
    """The signals: the first drains, the second stops at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[Any] | None = None  # what only a cancellation can stop
        self._orphaned = False
        self.at_once = asyncio.Event()
        self.exit_code = 0

    def __call__(self, signum: signal.Signals) -> None:
        if not self._engine.draining:
            busy = len(self._engine.running)
            log.info(
                "%s: draining, %d jobs to end; a second %s stops at once",
                signum.name, busy, "Ctrl-C" if signum is signal.SIGINT else signum.name,
            )  # fmt: skip
            self._engine.drain()
        elif not self.at_once.is_set():
            log.warning("%s again: stopping at once, jobs are handed back", signum.name)
            self.exit_code = 128 + signum
            self.at_once.set()
        if self.at_once.is_set() and self._task is not None:
            self._task.cancel()

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Leave the block, which may wait for good, when a signal says to stop at once."""
        self._task = task = asyncio.current_task()
        timer: asyncio.TimerHandle | None = None
        if self._orphaned:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(ORPHAN_HOOK_SECONDS, self, signal.SIGTERM)
        try:
            yield
        except asyncio.CancelledError:
            if not self.at_once.is_set():
                raise
            assert task is not None
            task.uncancel()
        finally:
            self._task = None
            if timer is not None:
                timer.cancel()

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self, signum)

    def follow_parent(self, grace_seconds: float) -> None:
        """Drain when standard input ends: the process that holds its other end is gone.

        A thread of its own hears it, and ends this process ``ORPHAN_SECONDS`` after the grace: a
        job or a hook may hold the event loop for good.
        """
        loop = asyncio.get_running_loop()
        stdin = sys.stdin.fileno()

        def follow() -> None:
            with contextlib.suppress(OSError):  # a terminal that is gone
                while os.read(stdin, 4096):
                    pass
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
                loop.call_soon_threadsafe(self._orphan)
            time.sleep(grace_seconds + ORPHAN_SECONDS)
            log.error("still here long after the process that started this worker ended; stopping")
            _leave(128 + signal.SIGTERM)

        threading.Thread(target=follow, name="twolane-parent", daemon=True).start()

    def _orphan(self) -> None:
        self._orphaned = True
        if not self._engine.draining:
            self(signal.SIGTERM)
        if self._task is not None:  # it may hang, and nobody is left to say it twice
            self(signal.SIGTERM)


def run(settings: Settings) -> int:
    """Run a worker in this process until SIGTERM or SIGINT; returns its exit code.

    Raises:
        BrokerError: the broker cannot be used at the start. Later outages are waited out.
        JobDefinitionError: the modules hold no jobs that can run.
    """
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    runner = asyncio.Runner(loop_factory=factory)
    loop = runner.get_loop()
    main = loop.create_task(serve(settings))
    while True:
        try:
            code = loop.run_until_complete(main)
            break
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            # asyncio stops the loop when any task exits, also one that a job has started (the job
            # that awaits that task gets the exception too), and when a job stops the loop itself.
            if main.done():
                runner.close()
                raise
            log.error(
                "a job stopped the event loop (%s: %s); going on", type(error).__name__, error
            )
    if not loop.run_until_complete(_ended(asyncio.all_tasks(loop))):
        # A job that swallows its cancellation would keep this process for ever. Everything is told
        # and closed; nothing is lost by not waiting.
        log.error("a job goes on although it was cancelled; ending without it")
        _leave(code)
    runner.close()
    return code


def _leave(code: int) -> NoReturn:
    """End without Python's own end, which would wait for what goes on."""
    logging.shutdown()
    with contextlib.suppress(OSError):  # who read the messages may be gone too
        sys.stderr.flush()
    os._exit(code)


async def _ended(tasks: set[asyncio.Task[Any]]) -> bool:
    """Cancel what jobs have left running; whether it ended within a second."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    _, going_on = await asyncio.wait(tasks, timeout=1.0)
    return not going_on


async def serve(settings: Settings) -> int:
    registry = Registry.load(settings.modules)
    client = broker.connect(settings.url, socket_timeout=reply_seconds(settings.lease_ms))
    # A subscription, and what jobs ask of ``ctx['redis']``, may wait for as long as they like.
    patient = broker.connect(settings.url)
    try:
        await broker.check(client, settings.url)
        return await _serve(settings, registry, client, patient)
    finally:
        await client.aclose()
        await patient.aclose()


async def _serve(settings: Settings, registry: Registry, client: Redis, patient: Redis) -> int:
    beat = identify(settings.lane)
    beat.version = __version__
    engine = Engine(
        registry,
        settings.lane,
        client,
        beat,
        slots=settings.slots,
        ctx=dict(settings.context),
        lease_ms=settings.lease_ms,
        burst=settings.burst,
        jobs_client=patient,
    )
    stop = Stop(engine)
    stop.listen()
    if settings.with_parent:
        stop.follow_parent(settings.grace_seconds)
    with stop.stopping():
        engine.runner, gauge = await _lane(settings, registry, engine)
    if engine.runner is None:
        return stop.exit_code
    loop = asyncio.get_running_loop()

    def lost(leases: list[tuple[str, bytes]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
            loop.call_soon_threadsafe(engine.lost, leases)

    queue = keys.QUEUES[settings.lane]
    watch = Watch(
        # A reply that takes longer than half a lease is as good as none.
        broker.connect_blocking(settings.url, socket_timeout=settings.lease_ms / 2000),
        RENEW, queue, settings.lease_ms, engine.held, lost, gauge, beat,
    )  # fmt: skip
    engine.on_late = watch.hurry
    pulse = Pulse(
        client, beat, engine.report, engine.cancel,
        health.toucher(settings.health_file, watch), engine.runner.helpers,
    )  # fmt: skip

    def heard(word: str) -> None:
        if word == "abort":
            pulse.hurry()
        else:
            engine.wake()

    try:
        if settings.lane == "io":
            with stop.stopping():
                await engine.call_hooks(registry.startup_hooks)
        if stop.at_once.is_set():
            return stop.exit_code
        watch.start()
        # Before the first claim: who waits for this worker hears of it whatever its jobs do.
        with contextlib.suppress(*BROKER_AWAY):
            await pulse.send()
        await _work(settings, engine, stop, Waker(patient, queue, heard), pulse)
    finally:
        watch.close()
        await engine.aclose()
        await engine.runner.close()
        if settings.lane == "io":
            try:
                with stop.stopping():
                    await engine.call_hooks(registry.shutdown_hooks)
            except JobDefinitionError as error:
                log.error("%s", error)
        with contextlib.suppress(*BROKER_AWAY, TimeoutError):
            async with asyncio.timeout(1):
                await pulse.goodbye()
    log.info("worker %s ended: %d done, %d failed", beat.worker, beat.done, beat.failed)
    return stop.exit_code


async def _work(settings: Settings, engine: Engine, stop: Stop, waker: Waker, pulse: Pulse) -> None:
    """Run the engine with all that goes on beside it, then see its jobs to their end."""
    async with asyncio.TaskGroup() as background:
        running = [one.run() for one in engine.conversations]
        beside = [background.create_task(one) for one in (*running, waker.run(), pulse.run())]
        await engine.main()
        await _drain(engine, stop, settings.grace_seconds)
        await end_all(beside)


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended.

    Once is not always enough: redis-py may take a cancellation for the timeout of its look at an
    idle connection. Such a worker had handed everything back, and never ended.
    """
    while left := {one for one in tasks if not one.done()}:
        for one in left:
            one.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)


async def _drain(engine: Engine, stop: Stop, grace_seconds: float) -> None:
    settling = asyncio.create_task(engine.wait_empty(grace_seconds))
    at_once = asyncio.create_task(stop.at_once.wait())
    await asyncio.wait({settling, at_once}, return_when=asyncio.FIRST_COMPLETED)
    settling.cancel()
    at_once.cancel()
    await engine.settle_all()


async def _lane(
    settings: Settings, registry: Registry, engine: Engine
) -> tuple[LaneRunner, Gauge | None]:
    if settings.lane == "io":
        from worker.io import IoLane

        lane = IoLane(registry, engine.ctx, engine.slots, engine.finish, Retry)
        return lane, lane.gauge
    from worker.cpu import CpuLane
    from worker.pool import Pool

    pool = Pool(
        settings.slots,
        settings.modules,
        max_memory_bytes=settings.max_memory_bytes,
        max_jobs_per_process=settings.max_jobs_per_process,
        max_result_bytes=wire.MAX_RESULT_BYTES,
    )
    await pool.start()
    return CpuLane(pool, engine.finish, engine.wake), None
