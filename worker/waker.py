"""Hears the producers' wake-up calls, so that an idle worker need not poll fast."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from twolane import keys
from twolane.channel import Subscription
from worker.acknowledger import BROKER_AWAY
from worker.backoff import Reconnection


class Waker:
    """Calls ``on_message`` with each word published for a queue: ``work`` or ``abort``.

    A word lost during a reconnection is made up for by calling with ``work`` after it.
    """

    def __init__(self, client: Redis, queue: str, on_message: Callable[[str], None]) -> None:
        self._client = client
        self._channel = keys.wake(queue)
        self._on_message = on_message

    async def run(self) -> None:
        reconnection = Reconnection("listening for work")
        while True:
            try:
                async with Subscription(self._client, self._channel, self._heard) as subscription:
                    self._on_message("work")
                    reconnection.succeeded()
                    await subscription.wait_lost()
            except BROKER_AWAY as error:
                await reconnection.wait(error)

    def _heard(self, word: bytes) -> None:
        self._on_message(word.decode("ascii", "replace"))
