"""How a worker waits while its broker is away: longer each time, never in step with the others."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from twolane.registry import Backoff

log = logging.getLogger("twolane.worker")
# A local server is back within a second; 2 s at the most keeps recovery after a long outage short.
RECONNECT: Final = Backoff(base=0.1, factor=2.0, ceiling=2.0)


class Reconnection:
    """The failures in a row of one conversation; says the first one and the recovery, once each."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._failures = 0

    def next_wait(self, error: BaseException) -> float:
        """Note a failure; returns how many seconds to wait."""
        self._failures += 1
        if self._failures == 1:
            # The type alone: a client's message may carry the URL, and with it a password.
            log.warning(
                "broker away while %s (%s); trying again", self._doing, type(error).__name__
            )
        return RECONNECT.seconds(self._failures, random.random())

    async def wait(self, error: BaseException) -> None:
        await asyncio.sleep(self.next_wait(error))

    def succeeded(self) -> None:
        if self._failures:
            log.warning("broker back while %s", self._doing)
            self._failures = 0
