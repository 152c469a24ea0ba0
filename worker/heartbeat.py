"""A worker's word, once a second, that it lives and what it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any, Final

import psutil
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import OutOfMemoryError

from twolane import fleet, keys
from twolane.fleet import Heartbeat
from worker.acknowledger import BROKER_AWAY
from worker.backoff import Reconnection
from worker.key_types import KeyTypes, is_wrong_type, of_lane

PERIOD_SECONDS: Final = 1.0
# Aborts that nobody answered are forgotten after a day; arq's own workers drop them too.
ABORT_KEEP_MS: Final = 86_400_000


class Pulse:
    """Publishes what ``report`` fills in, and brings back the aborts that were asked for.

    ``on_aborts`` gets the ids in arq's abort set, whichever worker they are meant for;
    ``on_sent`` is called after each heartbeat that the broker has. ``helpers`` are the processes
    whose CPU time and memory count as the worker's.
    """

    def __init__(
        self,
        client: Redis,
        beat: Heartbeat,
        report: Callable[[Heartbeat], None],
        on_aborts: Callable[[list[str]], Awaitable[None]],
        on_sent: Callable[[], None] = lambda: None,
        helpers: Callable[[], Iterable[int]] = tuple,
    ) -> None:
        self._client = client
        self._beat = beat
        self._report = report
        self._on_aborts = on_aborts
        self._on_sent = on_sent
        self._helpers = helpers
        self._fleets = (keys.WORKERS, keys.lane_workers(beat.lane))
        self._key_types = KeyTypes(of_lane(beat.lane))
        self._processes = {os.getpid(): psutil.Process()}
        self._usage()
        self._now = asyncio.Event()

    def hurry(self) -> None:
        """Beat now: an abort was asked for."""
        self._now.set()

    async def run(self) -> None:
        reconnection = Reconnection("sending heartbeats")
        while True:
            try:
                await self.send()
            except BROKER_AWAY as error:
                await reconnection.wait(error)
                continue
            reconnection.succeeded()
            due = monotonic() + PERIOD_SECONDS
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self._now.wait()
            except TimeoutError:
                # How late the loop came back from its sleep is how long others held it.
                self._beat.loop_lag_ms = max(0.0, (monotonic() - due) * 1000)
            self._now.clear()

    def _usage(self) -> tuple[float, int]:
        """Cores in use since the call before, and memory, of this process and its helpers."""
        pids = {os.getpid(), *self._helpers()}
        self._processes = {pid: one for pid, one in self._processes.items() if pid in pids}
        cores, memory = 0.0, 0
        for pid in pids:
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                process = self._processes.get(pid) or psutil.Process(pid)
                self._processes[pid] = process
                cores += process.cpu_percent() / 100
                memory += process.memory_info().rss
        return cores, memory

    async def goodbye(self) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            for key in self._fleets:
                pipe.zrem(key, self._beat.worker)
            pipe.delete(keys.worker(self._beat.worker))
            await pipe.execute()

    async def send(self) -> None:
        """Send a heartbeat now."""
        self._beat.cpu_share, self._beat.memory_bytes = self._usage()
        self._report(self._beat)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            # The latest: requests that came too late for their jobs stay for a day.
            pipe.zrevrange(keys.ABORTS, 0, 999)
            pipe.set(keys.worker(self._beat.worker), fleet.encode(self._beat), px=fleet.KEEP_MS)
            self._key_types.ask(pipe)
            (seconds, micros), aborts, _, *types = await _executed(pipe)
            self._key_types.answered(types)
            now_ms = seconds * 1000 + micros // 1000
            for key in self._fleets:
                pipe.zadd(key, {self._beat.worker: now_ms + fleet.KEEP_MS})
                pipe.zremrangebyscore(key, "-inf", now_ms)
            if aborts:
                pipe.zremrangebyscore(keys.ABORTS, "-inf", now_ms - ABORT_KEEP_MS)
            pipe.zcard(keys.lane_workers(self._beat.lane))
            *_, count = await _executed(pipe)
            self._beat.fleet = count or 1
        self._on_sent()
        if aborts:
            await self._on_aborts([keys.id_of(one) for one in aborts])


async def _executed(pipe: Pipeline) -> list[Any]:
    """The replies, None for what a key of another type or a server without memory did not take."""
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    for index, one in enumerate(replies):
        if isinstance(one, Exception):
            if not isinstance(one, OutOfMemoryError) and not is_wrong_type(one):
                raise one
            replies[index] = None
    return replies


def identify(lane: str) -> Heartbeat:
    """A first heartbeat: who this worker is."""
    host = socket.gethostname()
    name = f"{lane}-{host}-{os.getpid()}-{os.urandom(2).hex()}"
    return Heartbeat(worker=name, lane=lane, host=host, pid=os.getpid())
