"""Tells the broker how the attempts of an arq application ended, as many at once as there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from twolane import keys
from twolane.channel import Channel
from twolane.store import SETTLE_BATCH, Script, texts
from worker.acknowledger import BROKER_AWAY
from worker.backoff import Reconnection

Verb = Literal["finish", "retry", "release"]
FOR_GOOD: Final = -1


class Ending(NamedTuple):
    """How one attempt ended; what ``first``, ``second`` and ``hold_ms`` are: arq_settle.lua."""

    id: str
    fence: bytes
    verb: Verb
    first: bytes | int
    second: str | int
    hold_ms: int = 0


class Settler:
    """Holds what is to be told until the broker has it, through any outage.

    ``on_told`` gets what the broker has answered for, and the ids among them that were not this
    worker's any more. Belongs to the loop in which :meth:`tell` is called first; needs no start,
    and runs only while there is something to tell.
    """

    def __init__(
        self, client: Redis, queue: str, on_told: Callable[[Sequence[Ending], list[str]], None]
    ) -> None:
        self._channel = Channel(client)
        self._keys = (queue, keys.ABORTS)
        self._wake = keys.wake(queue)
        self._on_told = on_told
        self._script = Script("arq_settle", "set_many")
        self._endings: list[Ending] = []
        self._telling: asyncio.Task[None] | None = None

    def tell(self, ending: Ending) -> None:
        self._endings.append(ending)
        if self._telling is None:
            # It starts when this turn of the loop is over, with all that ended in it.
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def wait_told(self) -> None:
        """Wait until the broker knows everything. Cancelling this cancels nothing else."""
        while self._telling is not None:
            await asyncio.shield(self._telling)

    async def aclose(self) -> None:
        """Give up what has not been told, leases bring it back; and disconnect."""
        if self._telling is not None:
            self._telling.cancel()
        await self._channel.aclose()

    async def _tell_all(self) -> None:
        reconnection = Reconnection("recording results")
        try:
            while self._endings:
                batch = self._endings[:SETTLE_BATCH]
                args: list[Any] = [self._wake]
                for ending in batch:
                    args += ending
                try:
                    fenced = texts(await self._call(args))
                except BROKER_AWAY as error:
                    # Whether it ran is unknown. The fence makes a second time harmless.
                    await reconnection.wait(error)
                    continue
                reconnection.succeeded()
                del self._endings[: len(batch)]
                self._on_told(batch, fenced)
        finally:
            self._telling = None

    async def _call(self, args: list[Any]) -> list[bytes]:
        [reply] = await self._channel.send([self._script.by_digest(self._keys, args)])
        if isinstance(reply, NoScriptError):
            [reply] = await self._channel.send([self._script.in_full(self._keys, args)])
        if isinstance(reply, RedisError):
            raise reply
        told: list[bytes] = reply
        return told
