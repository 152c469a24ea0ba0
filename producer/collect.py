"""Follows a run to its end by reading its stream of outcomes as it grows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokerConnectionError
from redis.exceptions import TimeoutError as BrokerTimeoutError

from twolane import runs
from twolane.commandline import counted
from twolane.errors import JobsLost, UnknownRun, WaitTimeout
from twolane.outcome import Outcome
from twolane.runs import Run

AWAY: Final = (BrokerConnectionError, BrokerTimeoutError, OSError)
# How long one read waits for news; the run's own totals are looked at in between.
PATIENCE_MS: Final = 500
# After so many of them without news it is looked whether what is left is there at all.
PATIENCE: Final = 6


class Collected:
    """The outcomes of a run so far, the latest one of each job; how many of each lane."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.by_lane: Counter[str] = Counter()
        self._by_id: dict[str, Outcome] = {}

    def add(self, found: list[Outcome]) -> None:
        for one in found:
            self.by_lane[one.lane] += one.id not in self._by_id
            self._by_id[one.id] = one

    @property
    def outcomes(self) -> list[Outcome]:
        return list(self._by_id.values())

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)


async def follow(
    client: Redis,
    name: str,
    *,
    timeout: float | None = None,
    on_progress: Callable[[Collected], None] = lambda _: None,
    on_idle: Callable[[Collected], Awaitable[None]] | None = None,
) -> Collected:
    """Read a run's outcomes until all of its jobs have settled.

    ``on_progress`` is called after each read, ``on_idle`` awaited when there was no news for half
    a second. An outage of the broker is waited out.

    Raises:
        UnknownRun: there is no such run, or it is gone from the broker.
        JobsLost: what is left of it is in no queue any more: a queue was deleted.
        WaitTimeout: ``timeout`` seconds were over first.
    """
    collected = Collected(await runs.get(client, name))
    try:
        # Also ends a read from a broker that has fallen silent.
        async with asyncio.timeout(timeout):
            await _until_over(client, collected, on_progress, on_idle)
    except TimeoutError:
        raise WaitTimeout(
            f"run {name}: {len(collected):,} of {counted(collected.run.total, 'job')} done when "
            f"the time for waiting was over; follow it with `twolane runs show {name} --wait`"
        ) from None
    return collected


async def _until_over(
    client: Redis,
    collected: Collected,
    on_progress: Callable[[Collected], None],
    on_idle: Callable[[Collected], Awaitable[None]] | None,
) -> None:
    name, position = collected.run.name, "0"
    lost = silence = 0
    while True:
        try:
            reached, found = await runs.read(client, name, position, wait_ms=PATIENCE_MS)
            silence = 0 if found else silence + 1
            if found:
                collected.add(await runs.complete(client, found))
            # Not before: what an outage interrupts is read again.
            position = reached
            if not found or len(collected) >= collected.run.total:
                collected.run = await runs.get(client, name)
                if collected.run.is_over and len(collected) >= collected.run.total:
                    on_progress(collected)
                    return
            # No more came since it was looked: nothing had settled just before.
            if lost and not found:
                raise _told_of(lost, collected)
            looks = silence and silence % PATIENCE == 0
            lost = await runs.nowhere(client, collected.run, collected) if looks else 0
            if not found and on_idle is not None:
                await on_idle(collected)
        except UnknownRun:
            raise UnknownRun(
                f"run {name!r} is gone from the broker: its data was deleted while it ran "
                f"({len(collected):,} of {counted(collected.run.total, 'outcome')} had come)"
            ) from None
        except AWAY:
            await asyncio.sleep(PATIENCE_MS / 1000)
        on_progress(collected)


def _told_of(lost: int, collected: Collected) -> JobsLost:
    run = collected.run
    if run.is_over:
        return JobsLost(
            f"run {run.name}: all of it has settled, and {counted(lost, 'outcome')} of "
            f"{run.total:,} cannot be read: the run's stream was deleted on the broker"
        )
    return JobsLost(
        f"run {run.name}: {lost:,} of its {counted(run.total, 'job')} will never run: they are in "
        f"no queue any more, their places were deleted on the broker ({len(collected):,} have "
        "settled); enqueue them again"
    )


async def collect(client: Redis, name: str) -> Collected:
    """What a run has come to now, without waiting."""
    collected = Collected(await runs.get(client, name))
    async for found in runs.read_all(client, name):
        collected.add(await runs.complete(client, found))
    return collected
