"""The fleet's live view: what it makes of heartbeats and counters, and what a look costs."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from rich.console import Console

from producer.cli.watch import History, render
from producer.comparison import Quantiles
from producer.watch import LaneNow, Snapshot, Watcher, WorkerNow
from twolane import fleet, keys
from twolane.fleet import KEEP_MS, Heartbeat
from twolane.histogram import Histogram
from twolane.keys import IO_QUEUE, Lane


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Fleet:
    """Heartbeats and counters made by hand, and one who watches them."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._clock = Clock()
        self._watcher = Watcher(client, self._clock)
        self._at_ms: dict[str, int] = {}

    async def look(self, seconds: float = 1.0) -> Snapshot:
        """A look, so long after the one before."""
        self._clock.now += seconds
        return await self._watcher.look()

    async def beat(self, worker: str, lane: Lane = "io", **fields: Any) -> None:
        """A heartbeat; each is a second after the one before."""
        at_ms = self._at_ms[worker] = self._at_ms.get(worker, 0) + 1_000
        made = Heartbeat(worker=worker, lane=lane, host="host", pid=1, at_ms=at_ms, **fields)
        seconds, micros = await self._client.time()
        due = seconds * 1000 + micros // 1000 + KEEP_MS
        await self._client.zadd(keys.WORKERS, {worker: due})
        await self._client.set(keys.worker(worker), fleet.encode(made), px=KEEP_MS)

    async def goodbye(self, worker: str) -> None:
        await self._client.zrem(keys.WORKERS, worker)

    async def count(self, **counters: int) -> None:
        """The IO lane's counters are now these."""
        await self._client.hset(keys.counters(IO_QUEUE), mapping=counters)

    async def wait(self, jobs: int) -> None:
        """So many IO jobs are due."""
        await self._client.delete(IO_QUEUE)
        if jobs:
            await self._client.zadd(IO_QUEUE, {f"job-{number}": 1 for number in range(jobs)})


@pytest.fixture
def now(client: Redis) -> Fleet:
    return Fleet(client)


def lane(snapshot: Snapshot, name: str = "io") -> LaneNow:
    (found,) = (one for one in snapshot.lanes if one.lane == name)
    return found


def durations(*seconds: float) -> dict[int, int]:
    made = Histogram()
    for one in seconds:
        made.add(one)
    return made.buckets


# -- Rates --


async def test_the_first_look_has_no_rates_and_nobody_joined(now: Fleet) -> None:
    await now.count(enqueued=50, done=40)
    await now.beat("io-a", done=40, run=durations(1.0))

    first = await now.look()

    assert (lane(first).enqueued_rate, lane(first).completed_rate) == (0, 0)
    assert (lane(first).run, first.joined, first.left) == (None, [], [])
    assert [worker.rate for worker in first.workers] == [0]


async def test_rates_are_what_the_counters_grew_by_in_the_time_between(now: Fleet) -> None:
    await now.count(enqueued=100, done=10, failed=1)
    await now.look()
    await now.count(enqueued=300, revived=20, done=60, failed=11, cancelled=10)

    second = lane(await now.look(seconds=2))

    assert second.enqueued_rate == 110
    assert second.completed_rate == 35
    assert second.failed_rate == 5
    idle = lane(await now.look())
    assert (idle.enqueued_rate, idle.completed_rate, idle.failed_rate) == (0, 0, 0)


async def test_counters_that_began_anew_are_no_negative_rate(now: Fleet) -> None:
    await now.count(enqueued=1_000, done=1_000)
    await now.beat("io-a", done=1_000, run=durations(*[1.0] * 9))
    await now.look()
    await now.count(enqueued=5, done=3)
    await now.beat("io-a", done=3, run=durations(0.1, 0.1, 0.1))

    after = await now.look()

    assert (lane(after).enqueued_rate, lane(after).completed_rate) == (0, 0)
    assert [worker.rate for worker in after.workers] == [0]
    run = lane(after).run
    assert run is not None
    assert run.p99 == pytest.approx(0.1, rel=0.02)


async def test_a_workers_rate_stays_until_its_next_heartbeat(now: Fleet) -> None:
    await now.beat("io-a", done=100)
    await now.look()
    await now.beat("io-a", done=150, failed=4)

    rates = [(await now.look(seconds=0.5)).workers[0].rate for _ in range(2)]

    assert rates == [54, 54]


async def test_a_fleets_quantiles_are_those_of_all_its_workers_since_the_look_before(
    now: Fleet,
) -> None:
    await now.beat("io-a", run=durations(9.0), wait=durations(9.0))
    await now.beat("io-b")
    await now.look()
    await now.beat("io-a", run=durations(9.0, *[0.1] * 60), wait=durations(9.0, 0.5))
    await now.beat("io-b", run=durations(*[0.2] * 40))
    await now.beat("cpu-c", "cpu", run=durations(5.0))  # it came between the looks

    second = await now.look()

    mine, cpu = lane(second), lane(second, "cpu")
    assert mine.run is not None
    assert (mine.run.p50, mine.run.p95) == (
        pytest.approx(0.1, rel=0.02), pytest.approx(0.2, rel=0.02),
    )  # fmt: skip
    assert mine.wait is not None
    assert mine.wait.p99 == pytest.approx(0.5, rel=0.02)
    assert cpu.run is not None
    assert cpu.run.p50 == pytest.approx(5.0, rel=0.02)


# -- Who is there --


async def test_workers_that_come_and_go_are_named_once(now: Fleet) -> None:
    await now.beat("io-a", slots=20, busy=3)
    await now.beat("io-b", slots=10, busy=1)
    first = await now.look()
    await now.goodbye("io-b")
    await now.beat("io-c", slots=5, draining=True)

    second, third = await now.look(), await now.look()

    assert (lane(first).workers, lane(first).slots, lane(first).running) == (2, 30, 4)
    assert (second.joined, second.left) == (["io-c"], ["io-b"])
    assert (third.joined, third.left) == ([], [])
    assert [worker.draining for worker in third.workers] == [False, True]


# -- Warnings --


async def test_jobs_that_no_worker_serves_are_warned_of(now: Fleet) -> None:
    await now.wait(1_200)
    await now.beat("cpu-a", "cpu", slots=2)

    (warning,) = (await now.look()).warnings

    assert warning == (
        "1,200 io jobs wait and no worker serves the lane; start one: twolane worker io"
    )


async def test_a_lane_with_free_slots_that_ends_nothing_is_warned_of(now: Fleet) -> None:
    await now.wait(7)

    async def looks(count: int, busy: int) -> list[str]:
        said = []
        for _ in range(count):
            await now.beat("io-a", slots=20, busy=busy)
            said += (await now.look()).warnings
        return said

    # It has all its slots full: long jobs are no stall.
    assert await looks(8, busy=20) == []
    assert await looks(5, busy=1) == []
    assert await looks(1, busy=1) == [
        "7 io jobs wait, 19 of 20 slots are free, and no job has ended for 5 s; "
        "look at the workers' logs"
    ]
    await now.count(done=1)
    assert await looks(5, busy=1) == []


async def test_a_worker_that_stopped_beating_is_warned_of(now: Fleet) -> None:
    await now.beat("io-a")
    await now.beat("io-b")

    async def silent() -> list[float]:
        await now.beat("io-b")
        return [worker.silent_seconds for worker in (await now.look()).workers]

    assert [await silent() for _ in range(4)] == [[0, 0], [1, 0], [2, 0], [3, 0]]
    await now.beat("io-b")
    (warning,) = (await now.look()).warnings
    assert "io-a has been silent for 4 s" in warning
    await now.beat("io-a")
    assert (await now.look()).warnings == []


# -- What it costs --


async def test_a_look_costs_the_same_however_many_jobs_there_are(client: Redis, now: Fleet) -> None:
    async def commands() -> dict[str, int]:
        await client.config_resetstat()
        await now.look()
        stats = await client.info("commandstats")
        return {name: one["calls"] for name, one in stats.items() if "config" not in name}

    await now.beat("io-a")
    await now.wait(10)
    few = await commands()
    await now.wait(10_000)
    await now.count(enqueued=10_000)
    many = await commands()

    noise = {"cmdstat_del", "cmdstat_zadd", "cmdstat_hset", "cmdstat_info"}
    assert {k: v for k, v in few.items() if k not in noise} == {
        k: v for k, v in many.items() if k not in noise
    }
    assert sum(few.values()) < 20
    assert not any("scan" in name or "keys" in name for name in many)


# -- The view --


def seen(rate: float, joined: list[str] | None = None, left: list[str] | None = None) -> Snapshot:
    def one(name: str, completed: float) -> LaneNow:
        return LaneNow(
            lane=name, workers=1, slots=1, running=0, waiting=0, oldest_seconds=0,
            enqueued_rate=0, completed_rate=completed, failed_rate=0, wait=None, run=None,
        )  # fmt: skip

    return Snapshot(1, [one("io", rate), one("cpu", 0)], [], joined or [], left or [], [])


def test_history_draws_each_lane_and_marks_who_came_and_went() -> None:
    history = History(5)
    for snapshot in (
        seen(1_000), seen(0), seen(800, ["a"]), seen(400, [], ["a"]), seen(100, ["b"], ["c"]),
        seen(0),
    ):  # fmt: skip
        history.add(snapshot)

    assert history.lines(80) == [
        ("io jobs/s, at most 800", " █▄▁ "),
        ("cpu jobs/s, at most 1", "     "),
        ("workers came +, went -", " +-± "),
    ]
    assert history.lines(2)[0] == ("io jobs/s, at most 100", "█ ")


@pytest.fixture
def full() -> Callable[[int], Snapshot]:
    """A look at a busy fleet with the widest figures that one second can have."""

    def make(workers: int) -> Snapshot:
        slow = Quantiles(123.4, 567.8, 1_234.5)
        lanes = [
            LaneNow(name, 120, 1_200, 1_199, 123_456, 3_599.0, 10_234.5, 10_234.5, 12.0, slow, slow)
            for name in keys.LANES
        ]
        found = [
            WorkerNow(
                f"io-0123456789ab-{number:05d}-beef", "io", "0123456789ab", 100, 100, 4_321.0, 7.99,
                987 << 20, 1_234.5, True, 0.0,
            )
            for number in range(workers)
        ]  # fmt: skip
        return Snapshot(9, lanes, found, ["io-a"], [], [])

    return make


def printed(snapshot: Snapshot, history: History) -> list[str]:
    """The lines of the view in a window of 100 columns and 30 lines."""
    console = Console(width=100, height=30, highlight=False, file=io.StringIO())
    with console.capture() as captured:
        console.print(render(snapshot, history, 100, 30))
    return captured.get().splitlines()


def test_nothing_is_folded_at_100_columns(full: Callable[[int], Snapshot]) -> None:
    history = History(300)
    for _ in range(200):
        history.add(full(3))

    lines = printed(full(3), history)

    assert len(lines) == 12  # 3 of lanes, 3 of history, 4 of workers, 2 blank ones
    assert "123/568/1,234 s" in lines[1]
    assert lines[-1].endswith("draining")
    assert lines[4].count("█") == 100 - 28 - 4


def test_more_workers_than_lines_are_counted(full: Callable[[int], Snapshot]) -> None:
    history = History(300)
    history.add(full(60))

    lines = printed(full(60), history)

    assert len(lines) < 30
    assert lines[-1].startswith("and 45 more")
