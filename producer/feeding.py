"""Keeps a queue's backlog from getting empty: a closed workload, for measuring capacity."""

from __future__ import annotations

import asyncio
import contextlib
import time
from time import monotonic
from typing import Final

from redis.asyncio import Redis

from producer.submit import Call, encode
from twolane import queues, runs, wire
from twolane.keys import QUEUES
from twolane.store import NewJob, Store

LOOK_SECONDS: Final = 0.05
# A backlog of so many seconds' work: longer than any pause between two looks.
RESERVE_SECONDS: Final = 1.0
LEAST: Final = 64


class Feeder:
    """Enqueues one call again and again for a run, so that some always wait.

    ``lowest`` is the smallest backlog seen since `mark`; 0 means that the workers may have had
    nothing to do, and the figures are of the feeder rather than of them.
    """

    def __init__(self, client: Redis, call: Call, run: str, slots: int) -> None:
        self._client = client
        self._store = Store(client)
        self._call = call
        self._run = run
        self._payload = encode(call, time.time_ns() // 1_000_000) + wire.dumps(run)
        self._wanted = max(LEAST, 4 * slots)
        self._sent = 0
        self.lowest: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Feeder:
        await self._fill(0)
        self._task = asyncio.create_task(self._feed())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await runs.seal(self._client, self._run)

    def mark(self) -> None:
        self.lowest = None

    def check(self) -> None:
        """Raise what has ended the feeding, if something has."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def _feed(self) -> None:
        looked, waiting_then, sent_then = monotonic(), self._wanted, self._sent
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            waiting = (await queues.look(self._client, self._call.job.lane)).waiting
            now = monotonic()
            self.lowest = waiting if self.lowest is None else min(self.lowest, waiting)
            rate = (waiting_then + self._sent - sent_then - waiting) / (now - looked)
            self._wanted = max(self._wanted, round(rate * RESERVE_SECONDS))
            looked, waiting_then, sent_then = now, waiting, self._sent
            await self._fill(waiting)

    async def _fill(self, waiting: int) -> None:
        missing = self._wanted - waiting
        if missing < self._wanted / 4:
            return
        new = [
            NewJob(runs.job_id(self._run, self._sent + number), self._payload)
            for number in range(missing)
        ]
        await self._store.enqueue_many(QUEUES[self._call.job.lane], new, self._run)
        self._sent += missing
