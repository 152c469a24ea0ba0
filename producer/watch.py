"""What a fleet does now, from two looks at its heartbeats and counters.

A look costs the same however many jobs run: one read of each queue's depth and counters and one of
each worker's latest heartbeat. Nothing is scanned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import msgspec
from redis.asyncio import Redis

from producer.comparison import Quantiles
from twolane import fleet, histogram, queues
from twolane.fleet import Heartbeat
from twolane.histogram import Histogram
from twolane.keys import LANES, Lane
from twolane.queues import Depth

# A worker beats once a second, and a busy machine may delay it by one or two.
SILENT_SECONDS: Final = 4.0
# For how long a lane with free slots may end nothing: ten times what a worker waits between polls.
STALLED_SECONDS: Final = 5.0


class LaneNow(msgspec.Struct):
    """One lane now. Rates are jobs a second since the look before; times are seconds.

    ``wait`` and ``run`` are of the jobs that ended since then, None where none did; they go silent
    when a lane stalls, and ``waiting`` and ``oldest_seconds`` do not.
    """

    lane: str
    workers: int
    slots: int
    running: int
    waiting: int
    oldest_seconds: float
    enqueued_rate: float
    completed_rate: float
    failed_rate: float
    wait: Quantiles | None
    run: Quantiles | None


class WorkerNow(msgspec.Struct):
    """One worker now: its heartbeat, and its jobs a second since its heartbeat before.

    ``silent_seconds`` is for how long its heartbeat has been the same, as far as looks can tell.
    """

    worker: str
    lane: str
    host: str
    slots: int
    busy: int
    rate: float
    cpu_share: float
    memory_bytes: int
    loop_lag_ms: float
    draining: bool
    silent_seconds: float
    blocked_by: str = ""


class Snapshot(msgspec.Struct):
    """A look. ``joined`` and ``left`` name the workers that came and went since the one before."""

    seconds: float
    lanes: list[LaneNow]
    workers: list[WorkerNow]
    joined: list[str]
    left: list[str]
    warnings: list[str]


class Watcher:
    """Looks at a fleet, and remembers the look before; the first look has no rates."""

    def __init__(self, client: Redis, clock: Callable[[], float] = monotonic) -> None:
        self._client = client
        self._clock = clock
        self._began = clock()
        self._looked: float | None = None
        self._depths: dict[Lane, Depth] = {}
        self._beats: dict[str, Heartbeat] = {}
        # Of each worker: when a look first saw its latest heartbeat, and the rate that it gave.
        self._heard: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        # Since when each lane that does not move has not.
        self._stalled: dict[Lane, float] = {}

    async def look(self) -> Snapshot:
        beats = {beat.worker: beat for beat in await fleet.workers(self._client)}
        depths = {lane: await queues.look(self._client, lane) for lane in LANES}
        now = self._clock()
        first = self._looked is None
        elapsed = now - self._looked if self._looked is not None else None
        lanes = [self._lane(lane, depths[lane], beats, elapsed) for lane in LANES]
        workers = [self._worker(beat, now) for beat in beats.values()]
        joined = [] if first else sorted(beats.keys() - self._beats.keys())
        left = [] if first else sorted(self._beats.keys() - beats.keys())
        for name in left:
            self._heard.pop(name, None)
            self._rates.pop(name, None)
        self._looked, self._depths, self._beats = now, depths, beats
        return Snapshot(
            seconds=now - self._began,
            lanes=lanes,
            workers=workers,
            joined=joined,
            left=left,
            warnings=[
                *_unserved(lanes),
                *self._standing(lanes, now),
                *_silent(workers),
                *_held(workers),
            ],
        )

    def _lane(
        self, lane: Lane, depth: Depth, beats: dict[str, Heartbeat], elapsed: float | None
    ) -> LaneNow:
        mine = [beat for beat in beats.values() if beat.lane == lane]
        before = self._depths.get(lane)

        def rate(*names: str) -> float:
            if before is None or not elapsed:
                return 0.0
            grown = sum(depth.counters.get(n, 0) - before.counters.get(n, 0) for n in names)
            return max(0, grown) / elapsed  # the counters begin anew when the data is deleted

        return LaneNow(
            lane=lane,
            workers=len(mine),
            slots=sum(beat.slots for beat in mine),
            running=sum(beat.busy for beat in mine),
            waiting=depth.waiting,
            oldest_seconds=depth.oldest_seconds,
            enqueued_rate=rate("enqueued", "revived"),
            completed_rate=rate("done", "failed", "cancelled"),
            failed_rate=rate("failed"),
            wait=_quantiles(self._news(mine, "wait")),
            run=_quantiles(self._news(mine, "run")),
        )

    def _news(self, beats: Sequence[Heartbeat], which: str) -> Histogram:
        """What the workers have counted since the look before; nothing at the first look."""
        if self._looked is None:
            return Histogram()
        parts = []
        for beat in beats:
            before = self._beats.get(beat.worker)
            then = getattr(before, which) if before is not None else {}  # it came meanwhile
            parts.append(histogram.since(getattr(beat, which), then).buckets)
        return histogram.merge(parts)

    def _standing(self, lanes: Sequence[LaneNow], now: float) -> list[str]:
        """Lanes of which the workers have room, and yet nothing of what waits has ended lately."""
        found = []
        for name, lane in zip(LANES, lanes, strict=True):
            free = lane.slots - lane.running
            if not (lane.waiting and lane.workers and free > 0) or lane.completed_rate:
                self._stalled.pop(name, None)
                continue
            since = self._stalled.setdefault(name, now)
            if now - since >= STALLED_SECONDS:
                found.append(
                    f"{lane.waiting:,} {name} jobs wait, {free:,} of {lane.slots:,} slots are "
                    f"free, and no job has ended for {now - since:.0f} s; look at the workers' logs"
                )
        return found

    def _worker(self, beat: Heartbeat, now: float) -> WorkerNow:
        before = self._beats.get(beat.worker)
        if before is None or beat.at_ms != before.at_ms:
            self._heard[beat.worker] = now
        if before is not None and beat.at_ms > before.at_ms:
            ended = beat.done + beat.failed - before.done - before.failed
            self._rates[beat.worker] = max(0, ended) / (beat.at_ms - before.at_ms) * 1000
        return WorkerNow(
            worker=beat.worker,
            lane=beat.lane,
            host=beat.host,
            slots=beat.slots,
            busy=beat.busy,
            rate=self._rates.get(beat.worker, 0.0),
            cpu_share=beat.cpu_share,
            memory_bytes=beat.memory_bytes,
            loop_lag_ms=beat.loop_lag_ms,
            draining=beat.draining,
            silent_seconds=now - self._heard[beat.worker],
            blocked_by=beat.blocked_by,
        )


def _quantiles(counted: Histogram) -> Quantiles | None:
    found = [counted.quantile(q) for q in (0.5, 0.95, 0.99)]
    if any(one is None for one in found):
        return None
    return Quantiles(*(one for one in found if one is not None))


def _unserved(lanes: Sequence[LaneNow]) -> list[str]:
    return [
        f"{lane.waiting:,} {lane.lane} jobs wait and no worker serves the lane; "
        f"start one: twolane worker {lane.lane}"
        for lane in lanes
        if lane.waiting and not lane.workers
    ]


def _held(workers: Sequence[WorkerNow]) -> list[str]:
    return [
        f"the event loop of worker {one.worker} is held by {one.blocked_by}; computing belongs in "
        "a plain `def`"
        for one in workers
        if one.blocked_by
    ]


def _silent(workers: Sequence[WorkerNow]) -> list[str]:
    return [
        f"worker {one.worker} has been silent for {one.silent_seconds:.0f} s; if it died, its jobs "
        "run again when their leases end"
        for one in workers
        if one.silent_seconds >= SILENT_SECONDS
    ]
