"""Measures a closed workload at several worker counts: the throughput that so many have.

At each count the backlog is never empty, the warm-up before the measured window and the drain after
it are left out, and the counts come in an order that is shuffled anew each round.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import monotonic
from types import MappingProxyType
from typing import Final

import msgspec
import psutil
from redis.asyncio import Redis

from producer.cancel import cancel_run
from producer.comparison import Quantiles
from producer.feeding import Feeder
from producer.load_meter import WORKERS, Busy, LoadMeter
from producer.submit import Call
from twolane import fleet, runs
from twolane.commandline import counted
from twolane.errors import JobsFailed, RemoteError, TwolaneError, WaitTimeout
from twolane.fleet import Heartbeat
from twolane.keys import Lane
from twolane.outcome import Outcome

FIRST_SECONDS: Final = 60.0  # for the first job to end
DRAIN_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 0.25
LINE_LETTERS: Final = 300


class Point(msgspec.Struct):
    """One measurement: ``workers`` with ``slots`` together, in round ``round_``.

    ``throughput`` is jobs that ended in the window over its seconds. ``busy_slots`` is the mean
    number of slots with a job, by the workers' heartbeats; so are the cores of workers that cannot
    be watched from here. ``lowest_backlog`` is the fewest jobs
    that waited at any look; at 0 the workers may have idled for want of work. ``per_second`` has
    the jobs that ended in each second of the window.
    """

    workers: int
    slots: int
    round_: int
    throughput: float
    jobs: int
    failed: int
    wait: Quantiles
    run: Quantiles
    busy_slots: float
    busy: Busy
    lowest_backlog: int
    per_second: list[int]


@dataclass(frozen=True)
class Window:
    """When one measurement looks: for ``seconds``, after a warm-up that begins as jobs end."""

    seconds: float = 4.0
    warm_up_seconds: float = 1.0


Measure = Callable[[int, int], Awaitable[Point]]  # of a count, in a round


async def sweep(
    measure: Measure,
    counts: Sequence[int],
    rounds: int,
    draw: random.Random,
    on_progress: Callable[[int, int, str], None] = lambda done, of, what: None,
    on_point: Callable[[Point], None] = lambda point: None,
) -> list[Point]:
    """Measure each count once a round, each round in an order of its own.

    ``on_point`` has each measurement at once, for who wants to keep those of a sweep that is cut
    off.
    """
    points: list[Point] = []
    whole = rounds * len(counts)
    for round_ in range(rounds):
        order = list(counts)
        draw.shuffle(order)
        for count in order:
            on_progress(len(points), whole, f"round {round_ + 1}: {count} workers")
            points.append(await measure(count, round_))
            on_point(points[-1])
    on_progress(whole, whole, "")
    return points


async def measure_now(
    client: Redis,
    call: Call,
    window: Window,
    round_: int = 0,
    processes: Mapping[str, Sequence[psutil.Process]] = MappingProxyType({}),
) -> Point:
    """Measure the workers of the call's lane that there are now; ``processes`` are watched, too.

    Raises:
        TwolaneError: there is no worker.
        JobsFailed: no job in the window succeeded.
        WaitTimeout: no job ended within a minute, or the queue did not get empty afterwards.
    """
    beats = await lane_beats(client, call.job.lane)
    if not beats:
        lane = call.job.lane
        raise TwolaneError(f"no {lane} worker is running; start one: `twolane worker {lane}`")
    run = await runs.create(client, "scale")
    meter = LoadMeter(client, processes)
    try:
        async with Feeder(client, call, run.name, sum(beat.slots for beat in beats)) as feeder:
            await _first(client, run.name)
            await asyncio.sleep(window.warm_up_seconds)
            feeder.mark()
            await meter.begin()
            begin_ms = await _server_ms(client)
            busy_slots, cores = await _watched(client, call.job.lane, window, feeder)
            end_ms = await _server_ms(client)
            busy = await meter.end()
            busy.others.setdefault(WORKERS, cores)
            lowest = feeder.lowest or 0
    finally:
        await _drained(client, run.name)
    ended = [one async for one in _ended(client, run.name, begin_ms, end_ms)]
    good = [one for one in ended if one.success]
    if not good:
        error = next((one.error for one in ended if one.error), None)
        what = shortened(error) if error else "give a longer --window"
        raise JobsFailed(
            f"{counted(len(ended), 'job')} of {call.job.name!r} ended with "
            f"{counted(len(beats), 'worker')}, and none of them succeeded: {what}"
        )
    seconds = (end_ms - begin_ms) / 1000
    return Point(
        workers=len(beats),
        slots=sum(beat.slots for beat in beats),
        round_=round_,
        throughput=len(ended) / seconds,
        jobs=len(ended),
        failed=len(ended) - len(good),
        wait=Quantiles.of([one.wait_ms / 1000 for one in ended]),
        run=Quantiles.of([one.run_seconds for one in ended]),
        busy_slots=busy_slots,
        busy=busy,
        lowest_backlog=lowest,
        per_second=_per_second(ended, begin_ms, end_ms),
    )


def shortened(error: RemoteError) -> str:
    """What failed a job, as much of it as a line bears."""
    text = f"{error.type}: {error.message}"
    return text if len(text) <= LINE_LETTERS else f"{text[:LINE_LETTERS]}…"


async def _first(client: Redis, name: str) -> None:
    _, found = await runs.read(client, name, wait_ms=int(FIRST_SECONDS * 1000))
    if not found:
        raise WaitTimeout(f"no job ended within {FIRST_SECONDS:.0f} s; is one that long?")


async def _watched(
    client: Redis, lane: Lane, window: Window, feeder: Feeder
) -> tuple[float, float]:
    """Wait for the window to pass; the mean numbers of busy slots and of busy cores in it, as the
    workers tell them.
    """
    until = monotonic() + window.seconds
    seen: dict[str, dict[int, Heartbeat]] = defaultdict(dict)
    while (left := until - monotonic()) > 0:
        await asyncio.sleep(min(BEAT_SECONDS, left))
        feeder.check()
        for beat in await lane_beats(client, lane):
            # A heartbeat is looked at several times before the next one comes.
            seen[beat.worker][beat.at_ms] = beat
    return (
        sum(fmean(beat.busy for beat in beats.values()) for beats in seen.values()),
        sum(fmean(beat.cpu_share for beat in beats.values()) for beats in seen.values()),
    )


async def _drained(client: Redis, name: str) -> None:
    """Cancel what the run has left, and wait until nothing of it runs."""
    await runs.seal(client, name)
    await cancel_run(client, name)
    until = monotonic() + DRAIN_SECONDS
    while not (await runs.get(client, name)).is_over:
        if monotonic() > until:
            raise WaitTimeout(f"run {name} did not end within {DRAIN_SECONDS:.0f} s of its cancel")
        await asyncio.sleep(0.02)


async def _ended(
    client: Redis, name: str, begin_ms: float, end_ms: float
) -> AsyncIterator[Outcome]:
    async for found in runs.read_all(client, name):
        for one in found:
            if not one.cancelled and begin_ms <= end_of(one) < end_ms:
                yield one


def end_of(one: Outcome) -> float:
    """When a job ended, in ms of the server's clock."""
    return one.started_ms + one.run_seconds * 1000


def _per_second(ended: Sequence[Outcome], begin_ms: float, end_ms: float) -> list[int]:
    bins = [0] * max(1, int((end_ms - begin_ms) / 1000))
    for one in ended:
        number = int((end_of(one) - begin_ms) / 1000)
        if number < len(bins):
            bins[number] += 1
    return bins


async def lane_beats(client: Redis, lane: Lane) -> list[Heartbeat]:
    """The latest heartbeats of a lane's workers that serve it."""
    return [beat for beat in await fleet.workers(client) if beat.lane == lane and not beat.draining]


async def _server_ms(client: Redis) -> float:
    seconds, micros = await client.time()
    return float(seconds * 1000 + micros / 1000)
