"""Hears the producers' wake-up calls, so that an idle worker need not poll fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis

from twolane import keys
from twolane.channel import Subscription
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
                async with Subscription(self._client, self._channel, self._heard) as subscription:
                    self._on_message("work")
                    reconnection.succeeded()
                    await _until_lost(subscription)
            except BROKER_AWAY as error:
                await reconnection.wait(error)

    def _heard(self, word: bytes) -> None:
        self._on_message(word.decode("ascii", "replace"))


async def _until_lost(subscription: Subscription) -> None:
    """Wait until the connection breaks.

    Raises:
        TimeoutError: it is open and dead: a question was not answered.
    """
    asked = False
    while True:
        since = subscription.heard
        await subscription.wait_lost(SILENCE_SECONDS)
        if subscription.heard != since:
            asked = False
        elif asked:
            raise TimeoutError("the subscription's connection is silent")
        else:
            subscription.ask()
            asked = True
