"""Follows a run to its end by reading its stream of outcomes as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokerConnectionError
from redis.exceptions import TimeoutError as BrokerTimeoutError

from twolane import runs
from twolane.errors import UnknownRun, WaitTimeout
from twolane.outcome import Outcome
from twolane.runs import Run

AWAY: Final = (BrokerConnectionError, BrokerTimeoutError, OSError)
# How long one read waits for news; the run's own totals are looked at in between.
PATIENCE_MS: Final = 500


class Collected:
    """The outcomes of a run so far, the latest one of each job."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._by_id: dict[str, Outcome] = {}

    def add(self, found: list[Outcome]) -> None:
        for one in found:
            self._by_id[one.id] = one

    @property
    def outcomes(self) -> list[Outcome]:
        return list(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)


async def follow(
    client: Redis,
    name: str,
    *,
    timeout: float | None = None,
    on_progress: Callable[[Collected], None] = lambda _: None,
    on_idle: Callable[[Collected], object] = lambda _: None,
) -> Collected:
    """Read a run's outcomes until all of its jobs have settled.

    ``on_progress`` is called after each read, ``on_idle`` when there was no news for half a
    second. An outage of the broker is waited out.

    Raises:
        UnknownRun: there is no such run, or it is gone from the broker.
        WaitTimeout: ``timeout`` seconds were over first.
    """
    deadline = None if timeout is None else monotonic() + timeout
    collected = Collected(await runs.get(client, name))
    position = "0"
    while True:
        try:
            position, found = await runs.read(client, name, position, wait_ms=PATIENCE_MS)
            if found:
                collected.add(await runs.complete(client, found))
            if not found or len(collected) >= collected.run.total:
                collected.run = await runs.get(client, name)
                if collected.run.is_over and len(collected) >= collected.run.total:
                    on_progress(collected)
                    return collected
        except UnknownRun:
            raise UnknownRun(
                f"run {name!r} is gone from the broker: its data was deleted while it ran "
                f"({len(collected)} of {collected.run.total} outcomes had come)"
            ) from None
        except AWAY:
            await asyncio.sleep(PATIENCE_MS / 1000)
            found = []
        on_progress(collected)
        if not found:
            on_idle(collected)
        if deadline is not None and monotonic() > deadline:
            raise WaitTimeout(
                f"run {name}: {len(collected)} of {collected.run.total} jobs done when the time "
                f"for waiting was over; follow it with `twolane runs show {name} --wait`"
            )


async def collect(client: Redis, name: str) -> Collected:
    """What a run has come to now, without waiting."""
    collected = Collected(await runs.get(client, name))
    async for found in runs.read_all(client, name):
        collected.add(await runs.complete(client, found))
    return collected
