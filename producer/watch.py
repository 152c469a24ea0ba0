"""What a fleet does now, from two looks at its heartbeats and counters.

A look costs the same however many jobs run: one read of each queue's depth and counters and one of
each worker's latest heartbeat. Nothing is scanned.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

import msgspec
from redis.asyncio import Redis

from producer.comparison import Quantiles
from twolane import fleet, histogram, queues
from twolane.fleet import Heartbeat
from twolane.histogram import Histogram
from twolane.keys import LANES, Lane
from twolane.queues import Depth


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
    """One worker now: its heartbeat, and its jobs a second since its heartbeat before."""

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

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._began = monotonic()
        self._looked: float | None = None
        self._depths: dict[Lane, Depth] = {}
        self._beats: dict[str, Heartbeat] = {}
        # The latest rate of each worker whose heartbeat has not changed since the last look.
        self._rates: dict[str, float] = {}

    async def look(self) -> Snapshot:
        beats = {beat.worker: beat for beat in await fleet.workers(self._client)}
        depths = {lane: await queues.look(self._client, lane) for lane in LANES}
        now = monotonic()
        elapsed = now - self._looked if self._looked is not None else None
        lanes = [self._lane(lane, depths[lane], beats, elapsed) for lane in LANES]
        workers = [self._worker(beat) for beat in beats.values()]
        first = self._looked is None
        snapshot = Snapshot(
            seconds=now - self._began,
            lanes=lanes,
            workers=workers,
            joined=[] if first else sorted(beats.keys() - self._beats.keys()),
            left=[] if first else sorted(self._beats.keys() - beats.keys()),
            warnings=_warnings(lanes),
        )
        self._looked, self._depths, self._beats = now, depths, beats
        return snapshot

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
        parts = []
        for beat in beats:
            before = self._beats.get(beat.worker)
            if before is not None:
                news = histogram.since(getattr(beat, which), getattr(before, which))
                parts.append(news.buckets)
        return histogram.merge(parts)

    def _worker(self, beat: Heartbeat) -> WorkerNow:
        before = self._beats.get(beat.worker)
        if before is not None and beat.at_ms > before.at_ms:
            ended = beat.done + beat.failed - before.done - before.failed
            self._rates[beat.worker] = ended / (beat.at_ms - before.at_ms) * 1000
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
        )


def _quantiles(counted: Histogram) -> Quantiles | None:
    found = [counted.quantile(q) for q in (0.5, 0.95, 0.99)]
    if any(one is None for one in found):
        return None
    return Quantiles(*(one for one in found if one is not None))


def _warnings(lanes: Sequence[LaneNow]) -> list[str]:
    return [
        f"{lane.waiting:,} {lane.lane} jobs wait and no worker serves the lane; "
        f"start one: twolane worker {lane.lane}"
        for lane in lanes
        if lane.waiting and not lane.workers
    ]
