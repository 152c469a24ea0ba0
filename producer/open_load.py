"""Sends jobs at a rate of its own, whatever becomes of them, and measures how long they take.

An open workload: the arrivals do not wait for the answers. Each time is counted from when the job
was meant to be sent, so that a sender that falls behind, or a system that stalls, does not hide
the wait that it causes ("coordinated omission": G. Tene, *How NOT to Measure Latency*, 2013).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal

import msgspec
import psutil
from redis.asyncio import Redis

from producer.cancel import cancel_run
from producer.collect import follow
from producer.comparison import Quantiles
from producer.load_meter import Busy, LoadMeter
from producer.submit import Call, encode
from producer.sweep import end_of, lane_beats, shortened
from twolane import runs, wire
from twolane.errors import JobsFailed, TwolaneError, WaitTimeout
from twolane.keys import QUEUES
from twolane.outcome import Outcome
from twolane.store import NewJob, Store

Arrivals = Literal["constant", "poisson"]
Progress = Callable[[int, int, str], None]  # how many are over, of how many, and of what
MOST_AT_ONCE: Final = 1_000
DRAIN_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Load:
    """``rate`` jobs a second for ``seconds``, of which the first ``warm_up_seconds`` do not count.

    ``"poisson"`` draws independent gaps (exponential ones, as independent people make), and
    ``"constant"`` sends at even ones.
    """

    rate: float
    seconds: float
    arrivals: Arrivals = "poisson"
    warm_up_seconds: float = 1.0


class Second(msgspec.Struct):
    """One second of a load, counted by the intended send time but for ``completed``."""

    sent: int
    completed: int
    wait_p95: float | None
    latency_p50: float | None
    latency_p95: float | None


class Loaded(msgspec.Struct):
    """What a load did. Times are seconds from the intended send time.

    ``wait`` is until the start (exact to 2 ms), ``latency`` until the end, ``run`` in between.
    ``late`` is by how much the sender missed its own schedule. ``scv`` is the squared coefficient
    of variation of the run time. The lists have one value for each second of the load.
    """

    rate: float
    arrivals: str
    seconds: float
    sent_rate: float
    completed_rate: float
    jobs: int
    failed: int
    unfinished: int
    workers: int
    slots: int
    wait_mean: float
    wait: Quantiles
    latency: Quantiles
    run: Quantiles
    run_mean: float
    scv: float
    late: Quantiles
    busy: Busy
    per_second: list[Second]


def schedule(load: Load, draw: random.Random) -> Iterator[float]:
    """When the jobs are to be sent, in seconds from the beginning."""
    at, number = 0.0, 0
    while True:
        if load.arrivals == "poisson":
            at += draw.expovariate(load.rate)
        else:
            at = number / load.rate
        number += 1
        if at >= load.seconds:
            return
        yield at


async def apply(
    client: Redis,
    call: Call,
    load: Load,
    draw: random.Random,
    processes: Mapping[str, Sequence[psutil.Process]],
    on_progress: Progress = lambda done, of, what: None,
) -> tuple[Loaded, list[Outcome], list[float]]:
    """Send the load to the workers that there are: what it did, the outcomes that count, and for
    how long each waited.

    ``on_progress`` is told about once a second how many seconds are over, then how many jobs.

    Raises:
        TwolaneError: there is no worker.
        JobsFailed: no job succeeded.
    """
    lane = call.job.lane
    beats = await lane_beats(client, lane)
    if not beats:
        raise TwolaneError(f"no {lane} worker is running; start one: `twolane worker {lane}`")
    run = await runs.create(client, "load")
    meter = LoadMeter(client, processes)
    await meter.begin()
    sender = _Sender(client, call, run.name)
    unfinished = 0
    try:
        began_ms = await sender.send(
            list(schedule(load, draw)),
            lambda at: on_progress(int(at), int(load.seconds), "seconds"),
        )
        busy = await meter.end()
        await runs.seal(client, run.name)
        await follow(
            client, run.name, timeout=DRAIN_SECONDS,
            on_progress=lambda found: on_progress(len(found), found.run.total, "jobs done"),
        )  # fmt: skip
    except WaitTimeout:
        unfinished = (await runs.get(client, run.name)).waiting
        await cancel_run(client, run.name)
    except asyncio.CancelledError:
        # The workers may be somebody's: what was sent is not left to them.
        await runs.seal(client, run.name)
        await cancel_run(client, run.name)
        raise
    outcomes: list[Outcome] = []
    async for found in runs.read_all(client, run.name):
        outcomes += [one for one in found if not one.cancelled]
    summary = _Summary(load, began_ms, sender.due, outcomes)
    made = summary.loaded(sender.late, busy, unfinished)
    made.workers, made.slots = len(beats), sum(beat.slots for beat in beats)
    return made, [one for _, one in summary.counting], summary.waits


class _Sender:
    def __init__(self, client: Redis, call: Call, run: str) -> None:
        self._client = client
        self._store = Store(client)
        self._queue = QUEUES[call.job.lane]
        self._run = run
        self._payload = encode(call, time.time_ns() // 1_000_000) + wire.dumps(run)
        self.due: list[float] = []
        self.late: list[float] = []

    async def send(self, due: list[float], on_progress: Callable[[float], None]) -> float:
        """Enqueue each at its time; returns the server's clock, in ms, at the beginning."""
        self.due = due
        # The server's clock is read between two looks at ours: half the round trip is the error.
        before = monotonic()
        seconds, micros = await self._client.time()
        began = (before + monotonic()) / 2
        sent = told = 0
        while sent < len(due):
            now = monotonic() - began
            if now >= told:
                told = int(now) + 1
                on_progress(now)
            if due[sent] > now:
                await asyncio.sleep(min(due[sent], told) - now)
                continue
            upto = sent
            while upto < len(due) and due[upto] <= now and upto - sent < MOST_AT_ONCE:
                upto += 1
            new = [
                NewJob(runs.job_id(self._run, number), self._payload)
                for number in range(sent, upto)
            ]
            await self._store.enqueue_many(self._queue, new, self._run)
            done = monotonic() - began
            self.late += [max(0.0, done - due[number]) for number in range(sent, upto)]
            sent = upto
        return float(seconds * 1000 + micros / 1000)


class _Summary:
    def __init__(
        self, load: Load, began_ms: float, due: Sequence[float], outcomes: Sequence[Outcome]
    ) -> None:
        self._load = load
        self._began_ms = began_ms
        self._due = due
        self._outcomes = outcomes
        # When each that counts was meant to be sent, with its outcome.
        self.counting = [
            (at, one) for one in outcomes if (at := due[_number(one)]) >= load.warm_up_seconds
        ]
        self.waits = [self._wait(at, one) for at, one in self.counting]

    def loaded(self, late: Sequence[float], busy: Busy, unfinished: int) -> Loaded:
        load, warm_up, rows = self._load, self._load.warm_up_seconds, self.counting
        good = [one for _, one in rows if one.success]
        if not good:
            error = next((one.error for _, one in rows if one.error), None)
            what = f": {shortened(error)}" if error else ""
            raise JobsFailed(f"none of {len(rows):,} jobs of the load succeeded{what}")
        waits = self.waits
        latencies = [wait + one.run_seconds for wait, (_, one) in zip(waits, rows, strict=True)]
        times = [one.run_seconds for one in good]
        mean = sum(times) / len(times)
        variance = sum((one - mean) ** 2 for one in times) / max(1, len(times) - 1)
        seconds = load.seconds - warm_up
        ends = [self._since(0.0, end_of(one)) for one in self._outcomes]
        return Loaded(
            rate=load.rate,
            arrivals=load.arrivals,
            seconds=seconds,
            sent_rate=sum(at >= warm_up for at in self._due) / seconds,
            completed_rate=sum(warm_up <= end < load.seconds for end in ends) / seconds,
            jobs=len(rows),
            failed=len(rows) - len(good),
            unfinished=unfinished,
            workers=0,
            slots=0,
            wait_mean=sum(waits) / len(waits),
            wait=Quantiles.of(waits),
            latency=Quantiles.of(latencies),
            run=Quantiles.of(times),
            run_mean=mean,
            scv=variance / mean**2 if mean else 0.0,
            late=Quantiles.of(late),
            busy=busy,
            per_second=self._seconds(ends),
        )

    def _wait(self, at: float, one: Outcome) -> float:
        # The server's clock has steps of 1 ms, and is read by us half a round trip too late.
        return max(0.0, self._since(at, one.started_ms))

    def _since(self, at: float, ms: float) -> float:
        return (ms - self._began_ms) / 1000 - at

    def _seconds(self, ends: Sequence[float]) -> list[Second]:
        count = max(1, int(self._load.seconds))
        sent = _binned(self._due, count)
        completed = _binned(ends, count)
        waits: list[list[float]] = [[] for _ in range(count)]
        latencies: list[list[float]] = [[] for _ in range(count)]
        for one in self._outcomes:
            at = self._due[_number(one)]
            if int(at) < count:
                waited = self._wait(at, one)
                waits[int(at)].append(waited)
                latencies[int(at)].append(waited + one.run_seconds)
        made = []
        for number in range(count):
            wait = Quantiles.of(waits[number]) if waits[number] else None
            latency = Quantiles.of(latencies[number]) if latencies[number] else None
            made.append(
                Second(
                    sent[number],
                    completed[number],
                    wait.p95 if wait else None,
                    latency.p50 if latency else None,
                    latency.p95 if latency else None,
                )
            )
        return made


def _binned(times: Sequence[float], count: int) -> list[int]:
    bins = [0] * count
    for at in times:
        if 0 <= at < count:
            bins[int(at)] += 1
    return bins


def _number(one: Outcome) -> int:
    """Which of the load's jobs it is: the end of its id."""
    return int(one.id.rpartition("-")[2])
