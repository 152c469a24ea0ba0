"""Hears the producers' wake-up calls, so that an idle worker need not poll fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from twolane import keys
from worker.acknowledger import BROKER_AWAY
from worker.backoff import Reconnection

# A connection that has been silent for so long is asked whether it lives.
SILENCE_SECONDS: Final = 5.0


class Waker:
    """Calls ``on_message`` with each word published for a queue: ``work`` or ``abort``.

    A word lost during a reconnection is made up for by calling with ``work`` after it. ``client``
    has no time limit for replies: a subscription waits for good.
    """

    def __init__(self, client: Redis, queue: str, on_message: Callable[[str], None]) -> None:
        self._client = client
        self._channel = keys.wake(queue)
        self._on_message = on_message

    async def run(self) -> None:
        reconnection = Reconnection("listening for work")
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as listener:
                    await listener.subscribe(self._channel)
                    self._on_message("work")
                    reconnection.succeeded()
                    await self._listen(listener)
            except BROKER_AWAY as error:
                await reconnection.wait(error)

    async def _listen(self, listener: PubSub) -> None:
        """Until the connection breaks.

        Raises:
            TimeoutError: it is open and dead: a question was not answered.
        """
        asked = False
        while True:
            message = await listener.get_message(timeout=SILENCE_SECONDS)
            if message is not None:
                asked = False
                if message["type"] == "message":
                    self._on_message(message["data"].decode("ascii", "replace"))
            elif asked:
                raise TimeoutError("the subscription's connection is silent")
            else:
                await listener.ping()
                asked = True
