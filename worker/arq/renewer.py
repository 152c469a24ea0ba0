"""Renews leases on the event loop, for clients that no thread can have the like of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import monotonic

from twolane.store import Store
from worker.acknowledger import BROKER_AWAY
from worker.backoff import Reconnection
from worker.watch import RENEWALS_PER_LEASE, Held


class LoopRenewer:
    """Takes the place of :class:`worker.watch.Watch`, which renews through a loop that is blocked.

    Needed for pools with connections of a class of the application's own.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        lease_ms: int,
        held: Callable[[], Sequence[Held]],
        on_lost: Callable[[list[tuple[str, bytes]]], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._lease_ms = lease_ms
        self._held = held
        self._on_lost = on_lost
        self._running: asyncio.Task[None] | None = None
        self._called = asyncio.Event()

    def start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        """Renew now: what is held since a moment ago may have little left of its lease."""
        self._called.set()

    def close(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        reconnection = Reconnection("renewing leases")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease_ms / RENEWALS_PER_LEASE / 1000):
                    await self._called.wait()
            self._called.clear()
            now = monotonic()
            held = [(one.id, one.fence) for one in self._held() if now < one.deadline]
            try:
                lost = set(await self._store.renew(self._queue, held, self._lease_ms))
            except BROKER_AWAY as error:
                await reconnection.wait(error)
                continue
            reconnection.succeeded()
            if lost:
                self._on_lost([one for one in held if one[0] in lost])
