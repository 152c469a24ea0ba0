"""Holds how attempts ended until the store has it, through any outage of the broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from twolane.store import Report, Settlement

BROKER_AWAY: Final = (RedisError, OSError)


class Acknowledger:
    """What is to be told. :class:`worker.exchange.Exchange` takes it and tells it.

    ``on_told`` gets the ids that the store has answered for, ``on_fenced`` those of them that were
    not this worker's any more. ``on_news`` is the exchange's: there is something to tell.
    """

    def __init__(
        self,
        on_told: Callable[[list[str]], None],
        on_fenced: Callable[[list[str]], None],
    ) -> None:
        self._on_told = on_told
        self._on_fenced = on_fenced
        self.on_news: Callable[[], None] = lambda: None
        self._report = Report()

    def settle(self, settlement: Settlement) -> None:
        self._report.settled.append(settlement)
        self.on_news()

    def retry(self, job_id: str, fence: bytes, delay_ms: int) -> None:
        self._report.retries.append((job_id, fence, delay_ms))
        self.on_news()

    def release(self, job_id: str, fence: bytes, due_ms: int) -> None:
        self._report.releases.append((job_id, fence, due_ms))
        self.on_news()

    @property
    def has_news(self) -> bool:
        return bool(self._report)

    def take(self, limit: int) -> Report:
        """Up to ``limit`` of each kind, of what settled 16 MiB or one; answered or put back."""
        return self._report.take(limit)

    def put_back(self, report: Report) -> None:
        """Keep a report of which it is unknown whether it arrived, to be told again.

        What did arrive is fenced the second time, which does no harm.
        """
        self._report.put_back(report)

    def answered(self, report: Report, fenced: list[str], untold: Report) -> None:
        """A report arrived but for ``untold``, which the server refused for now."""
        told = report.ids()
        if untold:
            self.put_back(untold)
            left = set(untold.ids())
            told = [one for one in told if one not in left]
        self._on_told(told)
        if fenced:
            self._on_fenced(fenced)
