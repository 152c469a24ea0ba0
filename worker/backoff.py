"""How a worker waits while its broker is away: longer each time, never in step with the others."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from redis.exceptions import TimeoutError as BrokerTimeoutError

from twolane.registry import Backoff
from worker.key_types import is_wrong_type

log = logging.getLogger("twolane.worker")
# A local server is back within a second; 2 s at the most keeps recovery after a long outage short.
RECONNECT: Final = Backoff(base=0.1, factor=2.0, ceiling=2.0)

TIMEOUTS: Final = (TimeoutError, BrokerTimeoutError)


class Reconnection:
    """The failures in a row of one conversation; says the first one and the recovery, once each.

    ``reply_seconds`` is how long a reply is waited for, where that follows from the lease.
    """

    def __init__(self, doing: str, reply_seconds: float | None = None) -> None:
        self._doing = doing
        self._reply_seconds = reply_seconds
        self._failures = 0

    def next_wait(self, error: BaseException) -> float:
        """Note a failure; returns how many seconds to wait."""
        self._failures += 1
        if self._failures == 1:
            # The type alone: a client's message may carry the URL, and with it a password.
            log.warning(
                "broker away while %s (%s%s); trying again",
                self._doing, type(error).__name__, self._advice(error),
            )  # fmt: skip
        return RECONNECT.seconds(self._failures, random.random())

    def _advice(self, error: BaseException) -> str:
        if is_wrong_type(error):
            return ": a key of another type, which is named beside this"
        if self._reply_seconds is None or not isinstance(error, TIMEOUTS):
            return ""
        return f": no answer within {self._reply_seconds:g} s; a longer --lease waits longer"

    async def wait(self, error: BaseException) -> None:
        await asyncio.sleep(self.next_wait(error))

    def succeeded(self) -> None:
        if self._failures:
            log.warning("broker back while %s", self._doing)
            self._failures = 0
