"""Talks with the store: tells what has ended and takes what can start, in one round trip.

Purpose: keep the server at work on one batch while the event loop runs another one. Its ``run`` is
therefore started twice (``CONVERSATIONS``); with one, each waits for the other half of the time.
Guarantees: what was to be told is told in the end; every request is answered or given up.
Assumptions: both conversations are on one event loop, and over one channel.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from twolane.store import Claim, Report, Request, Store
from worker.acknowledger import BROKER_AWAY, Acknowledger
from worker.backoff import Reconnection

CONVERSATIONS: Final = 2
# Jobs in one round trip: more keep the server's other clients waiting, and each side for the other;
# fewer are more round trips. Measured; docs/decisions/0014.
PORTION: Final = 50


class Claimer(Protocol):
    """Who decides what is claimed, and takes it."""

    def next_request(self) -> Request | None:
        """What to ask for now; None for nothing."""

    def answered(self, request: Request, claim: Claim | None) -> None:
        """The answer to a request; None where the broker was away."""


class Exchange:
    """The conversations of one worker about one queue.

    ``portion`` is how much is told at once at the most; the claimer may change it. Were all that
    has ended told at once, the two conversations would fall into step.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        acknowledger: Acknowledger,
        claimer: Claimer,
        reply_seconds: float,
    ) -> None:
        self._store = store
        self._queue = queue
        self._acknowledger = acknowledger
        self._claimer = claimer
        self.portion = PORTION
        # Whether the latest word was not answered, and is to be said again.
        self.is_failing = False
        self._news = asyncio.Event()
        acknowledger.on_news = self.notice
        self._talking = 0
        self._fell_quiet = asyncio.Event()
        self._reconnection = Reconnection("claiming jobs and recording results", reply_seconds)

    def notice(self) -> None:
        """There is something to tell, or something to ask for."""
        self._news.set()

    async def run(self) -> None:
        """Talk for as long as the task lives; an outage is waited out."""
        while True:
            request = self._claimer.next_request()
            report = self._acknowledger.take(self.portion)
            if not report and request is None:
                self.is_failing = False
                self._news.clear()
                await self._news.wait()
                continue
            error = await self._talk(report, request)
            self.is_failing = error is not None
            if error is not None:
                await self._reconnection.wait(error)
            else:
                self._reconnection.succeeded()

    async def wait_quiet(self) -> None:
        """Wait until the store knows everything and no answer is on its way."""
        while self._talking or self._acknowledger.has_news:
            self._fell_quiet.clear()
            await self._fell_quiet.wait()

    async def _talk(self, report: Report, request: Request | None) -> Exception | None:
        self._talking += 1
        try:
            answer = await self._store.exchange(self._queue, report, request)
        except BaseException as error:  # cancelled too, it must not lose what it was to tell
            self._acknowledger.put_back(report)
            if request is not None:
                self._claimer.answered(request, None)
            if isinstance(error, BROKER_AWAY):
                return error
            raise
        finally:
            self._talking -= 1
            self._fell_quiet.set()
        if report:
            self._acknowledger.answered(report, answer.fenced, answer.untold)
        if request is not None:
            self._claimer.answered(request, answer.claim)
        return answer.error
