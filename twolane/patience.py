"""Waits out an outage of the broker, for operations that may be sent again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from redis.exceptions import AuthenticationError, AuthorizationError
from redis.exceptions import ConnectionError as BrokerConnectionError
from redis.exceptions import TimeoutError as BrokerTimeoutError

from twolane.registry import Backoff

log = logging.getLogger("twolane")
T = TypeVar("T")

# Arbitrary: a server that restarts, or is replaced, is back within a minute or has a person at it.
PATIENCE_SECONDS: Final = 60.0
AGAIN: Final = Backoff(base=0.1, factor=2.0, ceiling=2.0)
AWAY: Final = (BrokerConnectionError, BrokerTimeoutError, OSError)
REFUSED: Final = (AuthenticationError, AuthorizationError)  # redis-py's ConnectionErrors as well


async def patiently(
    operation: Callable[[], Awaitable[T]], doing: str, seconds: float | None = None
) -> T:
    """Call ``operation`` until the broker answers it, for ``seconds`` (60) at the most.

    Whether a call that failed was carried out is unknown: doing it twice must do no harm. The last
    failure is raised; a refusal (a wrong password, a full server) at once.
    """
    deadline = monotonic() + (PATIENCE_SECONDS if seconds is None else seconds)
    failures = 0
    while True:
        try:
            return await operation()
        except REFUSED:
            raise
        except AWAY as error:
            failures += 1
            if monotonic() > deadline:
                raise
            if failures == 1:
                # The type alone: a client's message may carry the URL, and with it a password.
                log.warning("broker away while %s (%s); trying again", doing, type(error).__name__)
        await asyncio.sleep(AGAIN.seconds(failures, random.random()))
