"""A lane without an engine, and what it reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from tests.worker.hosting import registry_of
from tests.worker.io_lane.jobs import FUNCTIONS
from twolane import wire
from twolane.registry import MARK
from twolane.store import ClaimedJob
from worker.attempt import Attempt, Ended
from worker.engine import Retry
from worker.io import IoLane

SECOND = 1_000


class Bench:
    """A lane, and what it reported."""

    def __init__(
        self,
        *functions: Callable[..., Any],
        slots: int = 100,
        max_result_bytes: int = wire.MAX_RESULT_BYTES,
    ) -> None:
        self.ended: list[tuple[Attempt, Ended]] = []
        self._one_more = asyncio.Event()
        self.lane = IoLane(
            registry_of(functions or FUNCTIONS), {"shared": "with all jobs"}, slots,
            self._finish, Retry, max_result_bytes,
        )  # fmt: skip

    def _finish(self, attempt: Attempt, ended: Ended) -> None:
        self.ended.append((attempt, ended))
        self._one_more.set()

    def attempt(
        self, function: Callable[..., Any], args: bytes = b"\x90", kwargs: bytes = b"\x80"
    ) -> Attempt:
        made = Attempt(ClaimedJob("one", b"", 2, 5 * SECOND, False, b"fence"), 6 * SECOND)
        made.job = getattr(function, MARK)
        made.payload = wire.Payload(
            made.job.name, msgspec.Raw(args), msgspec.Raw(kwargs), 4 * SECOND
        )
        return made

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Attempt:
        attempt = self.attempt(function, wire.dumps(args), wire.dumps(kwargs))
        self.lane.start(attempt)
        return attempt

    async def wait_ended(self, count: int = 1) -> list[Ended]:
        async with asyncio.timeout(10):
            while len(self.ended) < count:
                self._one_more.clear()
                await self._one_more.wait()
        return [ended for _, ended in self.ended]

    async def end_of(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Ended:
        self.start(function, *args, **kwargs)
        (ended,) = await self.wait_ended()
        return ended
