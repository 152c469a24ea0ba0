"""Tells the store how attempts ended, all that ended since the last call in one round trip."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from twolane.store import Settlement, Store
from worker.backoff import Reconnection

log = logging.getLogger("twolane.worker")
BROKER_AWAY: Final = (RedisError, OSError)


class Acknowledger:
    """Holds what is to be told until the store has it, through any outage of the broker.

    ``on_told`` gets the ids that the store has answered for, ``on_fenced`` those of them that were
    not this worker's any more.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        on_told: Callable[[list[str]], None],
        on_fenced: Callable[[list[str]], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._on_told = on_told
        self._on_fenced = on_fenced
        self._settled: list[Settlement] = []
        self._retries: list[tuple[str, bytes, int]] = []
        self._releases: list[tuple[str, bytes, int]] = []
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def settle(self, settlement: Settlement) -> None:
        self._settled.append(settlement)
        self._mark()

    def retry(self, job_id: str, fence: bytes, delay_ms: int) -> None:
        self._retries.append((job_id, fence, delay_ms))
        self._mark()

    def release(self, job_id: str, fence: bytes, due_ms: int) -> None:
        self._releases.append((job_id, fence, due_ms))
        self._mark()

    def _mark(self) -> None:
        self._idle.clear()
        self._something.set()

    async def run(self) -> None:
        """Tell the store, for as long as the task lives; an outage is waited out."""
        reconnection = Reconnection("recording results")
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                await self._tell()
            except BROKER_AWAY as error:
                self._something.set()
                await reconnection.wait(error)
            else:
                reconnection.succeeded()
                if not self._something.is_set():
                    self._idle.set()

    async def wait_told(self) -> None:
        """Wait until the store knows everything."""
        await self._idle.wait()

    async def _tell(self) -> None:
        # Each list is emptied only when the store has answered: what was sent before a lost reply
        # is sent again, and the fence makes the second time harmless.
        if self._settled:
            settled, self._settled = self._settled, []
            try:
                fenced = await self._store.acknowledge(self._queue, settled)
            except BaseException:
                self._settled = settled + self._settled
                raise
            self._answered([one.id for one in settled], fenced)
        if self._retries:
            retries, self._retries = self._retries, []
            try:
                fenced = await self._store.retry(self._queue, retries)
            except BaseException:
                self._retries = retries + self._retries
                raise
            self._answered([one[0] for one in retries], fenced)
        if self._releases:
            releases, self._releases = self._releases, []
            try:
                fenced = await self._store.release(self._queue, releases)
            except BaseException:
                self._releases = releases + self._releases
                raise
            self._answered([one[0] for one in releases], fenced)

    def _answered(self, told: list[str], fenced: list[str]) -> None:
        self._on_told(told)
        if fenced:
            self._on_fenced(fenced)
