"""The load that faults of the server are injected under: producers that go on, and IO workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from redis.asyncio import Redis

from chaoslab.fleet import SLOTS, Worker, ready
from chaoslab.lab import Lab

Enqueue = Callable[..., Awaitable[list[str]]]


class Load:
    """Producers that go on enqueueing, whatever becomes of the broker, until they are told."""

    def __init__(
        self,
        lab: Lab,
        client: Redis | None = None,
        size: int = 10,
        enqueue: Enqueue | None = None,
    ) -> None:
        self._enqueue = enqueue or partial(lab.enqueue, client=client)
        self._size = size
        self._stop = False
        self._task = lab.go(self._run())
        self.enqueued = 0

    async def _run(self) -> None:
        while not self._stop:
            await self._enqueue("nap", self._size, seconds=0.02)
            self.enqueued += self._size
            await asyncio.sleep(0.05)

    async def stop(self) -> int:
        """Let the last call end; how many jobs were acknowledged."""
        self._stop = True
        await self._task
        return self.enqueued


async def start_workers(
    lab: Lab,
    count: int = 2,
    url: str | None = None,
    lane: str = "io",
    options: Sequence[str] | None = None,
) -> list[Worker]:
    """Workers of 20 slots, unless ``options`` say otherwise, that are ready."""
    given = SLOTS[lane] if options is None else options
    made = [lab.fleet.launch(lane, *given, url=url) for _ in range(count)]
    await ready(*made)
    return made
