"""What a lane holds beyond its slots, where its jobs are over sooner than the broker answers.

The slots would then wait for the broker most of their time. While jobs are short, some more are
therefore claimed than can start at once; one that has not started within ``AHEAD_SECONDS`` goes
back to the queue without using up a try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from worker.attempt import Attempt

AHEAD_SECONDS: Final = 0.1  # arbitrary: what a wrong guess may cost a job that others could run
SMOOTHING: Final = 0.2  # weight of the latest job in the mean run time


class Ahead:
    """Attempts that wait for a slot, the one that waits longest first.

    Up to ``limit`` of them, while jobs take less than ``short_seconds``. ``give_back`` gets those
    that waited too long. ``waits`` tells whether one still does, where the lane does not say so;
    while ``holds_on`` says True none is given back.
    """

    def __init__(
        self,
        limit: int,
        short_seconds: float,
        give_back: Callable[[Attempt], None],
        *,
        waits: Callable[[Attempt], bool] = lambda _: True,
        holds_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._limit = limit
        self._short_seconds = short_seconds
        self._give_back = give_back
        self._waits = waits
        self._holds_on = holds_on
        self._mean_seconds = short_seconds  # nothing ahead before a job has run
        self.attempts: dict[Attempt, None] = {}  # for reading, without a call for every job
        self._impatience: asyncio.TimerHandle | None = None

    def allowed(self) -> int:
        """How many jobs to claim beyond those that have a slot."""
        return self._limit if self._mean_seconds < self._short_seconds else 0

    def ran(self, seconds: float) -> None:
        """A job ran for so long."""
        self._mean_seconds += SMOOTHING * (seconds - self._mean_seconds)

    def add(self, attempt: Attempt) -> None:
        """An attempt waits, since its ``started``."""
        self.attempts[attempt] = None
        if self._impatience is None:
            self._look_again_at(attempt)

    def discard(self, attempt: Attempt) -> None:
        self.attempts.pop(attempt, None)

    def take(self) -> Attempt:
        """Take out the attempt that waits longest; there must be one."""
        attempt = next(iter(self.attempts))
        del self.attempts[attempt]
        return attempt

    def _look_again_at(self, first: Attempt) -> None:
        delay = first.started + AHEAD_SECONDS - monotonic()
        self._impatience = asyncio.get_running_loop().call_later(max(0.0, delay), self._look)

    def _look(self) -> None:
        self._impatience = None
        if self.attempts and self._holds_on():
            loop = asyncio.get_running_loop()
            self._impatience = loop.call_later(AHEAD_SECONDS, self._look)
            return
        late = monotonic() - AHEAD_SECONDS
        for attempt in list(self.attempts):
            if not self._waits(attempt):
                self.discard(attempt)
            elif attempt.started <= late:
                self.discard(attempt)
                self._mean_seconds = self._short_seconds  # long ones run: nothing ahead of them
                self._give_back(attempt)
            else:
                self._look_again_at(attempt)
                return
