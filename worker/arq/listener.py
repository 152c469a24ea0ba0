"""Hears that a queue has changed, also from producers that tell nobody.

Purpose: arq's own producers publish nothing, and polling takes half of arq's poll_delay on average.
Guarantees: after :meth:`Listener.arm` has answered True, the next change of a watched key calls
``on_change`` once; nothing is sent for the changes after it until it is armed again, so that a
worker with enough to do is told nothing. Assumptions: the server has client tracking (Redis 6,
Valkey) and grants it; without it only words that are published are heard. ``on_change`` may be
called for nothing at any time. The worker polls beside it, so a call that is lost costs time only.

The server is asked to send what redis-py's caches live on: an invalidation message when a key that
this connection has read is changed by anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from twolane import keys
from worker.acknowledger import BROKER_AWAY
from worker.backoff import Reconnection

log = logging.getLogger("arq.worker")

INVALIDATED: Final = "__redis__:invalidate"  # the server's own name for the channel
ARM_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 30.0  # how often it sees that the other connection broke


class Listener:
    """Watches ``watched`` keys and the wake channel of ``queue``; :meth:`run` it as a task.

    It has two connections of its own, made as the client's pool makes them, beyond its limit.
    ``on_change`` gets the keys that changed; none for a published word.
    """

    def __init__(
        self,
        client: Redis,
        queue: str,
        watched: Sequence[str],
        on_change: Callable[[list[bytes]], None],
    ) -> None:
        self._pool: Any = client.connection_pool
        self._channel = keys.wake(queue)
        self._watched = watched
        self._on_change = on_change
        self._tracked: AbstractConnection | None = None
        self._armed = False

    @property
    def is_unarmed(self) -> bool:
        """Whether arming it would make a difference."""
        return self._tracked is not None and not self._armed

    async def arm(self) -> bool:
        """Ask to be told of the next change; False where that is not possible now.

        What changed before it is not told: look at the keys after it.
        """
        tracked = self._tracked
        if tracked is None:
            return False
        if not tracked.is_connected:  # it would connect anew, and not be tracked
            self._tracked = None
            return False
        self._armed = True
        try:
            async with asyncio.timeout(ARM_SECONDS):  # the main loop waits for it
                await _ask(tracked, "EXISTS", *self._watched)
        except BROKER_AWAY:
            self._tracked = None
            return False
        return True

    async def run(self) -> None:
        if self._pool.connection_kwargs.get("protocol") in (3, "3"):
            log.debug("what RESP3 connections are told goes another way; polling")
            return
        reconnection = Reconnection("listening for work")
        while True:
            heard, tracked = self._pool.make_connection(), self._pool.make_connection()
            try:
                await self._follow(heard, tracked, reconnection)
            except BROKER_AWAY as error:
                await reconnection.wait(error)
            finally:
                self._tracked = None
                for one in (heard, tracked):
                    with contextlib.suppress(*BROKER_AWAY):
                        await one.disconnect(nowait=True)

    async def _follow(
        self, heard: AbstractConnection, tracked: AbstractConnection, reconnection: Reconnection
    ) -> None:
        may_track = True
        try:
            listener = await _ask(heard, "CLIENT", "ID")
            await _ask(tracked, "CLIENT", "TRACKING", "ON", "REDIRECT", listener)
        except ResponseError as error:
            may_track = False
            log.debug("the server tracks no keys for us (%s); polling", error)
        for channel in (INVALIDATED, self._channel):
            await _ask(heard, "SUBSCRIBE", channel)
        self._armed, self._tracked = False, tracked if may_track else None
        reconnection.succeeded()
        self._on_change([])
        while (self._tracked is not None) is may_track:
            message = await heard.read_response(timeout=LOOK_SECONDS)
            if not isinstance(message, list) or len(message) < 3:
                continue
            changed: list[bytes] = []
            if message[1] == INVALIDATED.encode():
                self._armed = False
                changed = message[2] or []  # none: everything was flushed
            self._on_change(changed)


async def _ask(connection: AbstractConnection, *command: Any) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


@contextlib.asynccontextmanager
async def listening(listener: Listener) -> Any:
    """Run it for the time of a block."""
    running = asyncio.get_running_loop().create_task(listener.run())
    try:
        yield listener
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
