"""A worker of the IO lane inside a test's own event loop, wired as in :mod:`worker.service`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from redis.asyncio import Redis

from producer.collect import follow
from producer.submit import Caller, submit
from tests.conftest import wait_until
from twolane import keys, outcome
from twolane.broker import connect_blocking
from twolane.outcome import Outcome
from twolane.registry import MARK, Registry
from twolane.store import RENEW
from worker.engine import Engine, Retry
from worker.heartbeat import Pulse, identify
from worker.io import IoLane
from worker.waker import Waker
from worker.watch import Watch

LEASE_MS = 10_000
SHORT_LEASE_MS = 400  # for tests that wait for its end


def registry_of(functions: Iterable[Callable[..., Any]]) -> Registry:
    """The jobs that the functions are marked as."""
    return Registry(getattr(one, MARK) for one in functions)


class HostedWorker:
    """An engine with its lane, its wake-up calls, its heartbeat and its renewal thread."""

    def __init__(
        self,
        url: str,
        client: Redis,
        registry: Registry,
        slots: int,
        lease_ms: int,
        watched: bool,
        burst: bool,
    ) -> None:
        self.beat = identify("io")
        self.engine = Engine(
            registry, "io", client, self.beat, slots=slots, lease_ms=lease_ms, burst=burst
        )
        lane = IoLane(registry, self.engine.ctx, slots, self.engine.finish, Retry)
        self.engine.runner = self.lane = lane
        # What the tests' jobs wait for, and where they tell that they run.
        self.go = self.engine.ctx["go"] = asyncio.Event()
        self.started: list[str] = self.engine.ctx.setdefault("started", [])
        self.pulse = Pulse(client, self.beat, self.engine.report, self.engine.cancel)
        self._waker = Waker(client, keys.IO_QUEUE, self._heard)
        loop = asyncio.get_running_loop()
        self.watch: Watch | None = None
        if watched:
            self.watch = Watch(
                connect_blocking(url, socket_timeout=lease_ms / 2000),
                RENEW,
                keys.IO_QUEUE,
                lease_ms,
                self.engine.held,
                lambda leases: loop.call_soon_threadsafe(self.engine.lost, leases) and None,
                lane.gauge,
                self.beat,
            )
            self.engine.on_late = self.watch.hurry
        self.main: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []

    def _heard(self, word: str) -> None:
        if word == "abort":
            self.pulse.hurry()
        else:
            self.engine.wake()

    def start(self) -> None:
        if self.watch is not None:
            self.watch.start()
        conversations = (*self.engine.conversations, self._waker, self.pulse)
        self._beside = [asyncio.create_task(one.run()) for one in conversations]
        self.main = asyncio.create_task(self.engine.main())

    async def wait_started(self, count: int = 1) -> None:
        """Wait until so many attempts have told that they run."""

        async def told() -> bool:
            return len(self.started) >= count

        await wait_until(told, f"{count} jobs that run")

    async def stop(self) -> None:
        """Hand back what runs and end; a failure of any of its parts is raised here."""
        assert self.main is not None
        self.engine.drain()
        await self.main
        await self.engine.settle_all()
        for task in self._beside:
            task.cancel()
        for ended in await asyncio.gather(*self._beside, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended
        if self.watch is not None:
            await asyncio.to_thread(self.watch.close)
        await self.engine.aclose()
        await self.lane.close()


@contextlib.asynccontextmanager
async def hosted(
    url: str,
    client: Redis,
    registry: Registry,
    *,
    slots: int = 10,
    lease_ms: int = LEASE_MS,
    watched: bool = True,
    burst: bool = False,
) -> AsyncIterator[HostedWorker]:
    """A worker that runs for as long as the block."""
    worker = HostedWorker(url, client, registry, slots, lease_ms, watched, burst)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def enqueue(client: Redis, registry: Registry, function: str, *each: dict[str, Any]) -> str:
    """Enqueue one job for each dictionary of arguments (one without any for none); the run."""
    caller = Caller(registry)
    calls = [caller.call(function, arguments) for arguments in each or ({},)]
    return (await submit(client, calls, "test")).name


async def outcomes(client: Redis, run: str, seconds: float = 15) -> list[Outcome]:
    """A run's outcomes in the order of its jobs, once all have settled."""
    collected = await follow(client, run, timeout=seconds)
    return sorted(collected.outcomes, key=lambda one: one.id)


async def recorded(client: Redis, run: str) -> list[str]:
    """The ids on a run's stream, one for each recorded outcome, in order."""
    entries = await client.xrange(keys.run_outcomes(run))
    return sorted(outcome.decode(one).id for _, fields in entries for one in fields.values())
