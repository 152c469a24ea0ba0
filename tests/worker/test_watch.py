"""The watching thread: it keeps the leases while the loop is blocked, and says who blocks it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis

import worker.watch
from tests.conftest import wait_until
from tests.worker.hosting import (
    LEASE_MS,
    SHORT_LEASE_MS,
    enqueue,
    hosted,
    outcomes,
    registry_of,
)
from twolane import job, keys
from twolane.broker import connect_blocking
from twolane.embedded import Embedded
from twolane.messages import CALL_BYTES
from twolane.store import CLAIM, RENEW, ClaimedJob
from worker.attempt import Attempt
from worker.heartbeat import identify
from worker.meter import Gauge, Meter
from worker.watch import Watch

FENCE = b"io-here:1"
# A lease at first, in ms: one that was renewed has more left, and seconds for a busy machine.
GRANTED_MS = LEASE_MS // 2


@job
async def block(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251  (what a job should not do)
    return "done"


@job
async def wait_for_go(ctx: dict[str, Any]) -> str:
    ctx["started"].append(ctx["job_id"])
    await ctx["go"].wait()
    return "released"


REGISTRY = registry_of([block, wait_for_go])


def attempt(job_id: str = "one", deadline: float = float("inf")) -> Attempt:
    made = Attempt(ClaimedJob(job_id, b"", 1, 0, False, FENCE), 0)
    made.deadline = deadline
    return made


class Watching:
    """A thread that renews what is in ``held`` and puts what it lost in ``lost``."""

    def __init__(self, url: str, gauge: Gauge | None = None) -> None:
        self.held: list[Attempt] = []
        self.lost: list[tuple[str, bytes]] = []
        self.watch = Watch(
            connect_blocking(url, socket_timeout=LEASE_MS / 2000), RENEW, keys.IO_QUEUE,
            LEASE_MS, lambda: list(self.held), self.lost.extend, gauge, identify("io"),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed every 50 ms, and last however busy the machine is."""
    monkeypatch.setattr(worker.watch, "RENEWALS_PER_LEASE", LEASE_MS // 50)


@pytest.fixture
def watching(broker: str) -> Iterator[Watching]:
    made = Watching(broker)
    made.watch.start()
    yield made
    made.watch.close()


async def lease(
    client: Redis, job_id: str = "one", fence: bytes = FENCE, for_ms: int = GRANTED_MS
) -> None:
    await client.set(keys.in_progress(job_id), fence, px=for_ms)
    await client.zadd(keys.IO_QUEUE, {job_id: 1})


async def is_extended(client: Redis, job_id: str = "one") -> bool:
    return bool(await client.pttl(keys.in_progress(job_id)) > GRANTED_MS)


async def wait_renewals(watching: Watching, count: int) -> None:
    for _ in range(count):
        before = watching.watch.renewed_at
        await wait_until(lambda b=before: watching.watch.renewed_at > b, "a renewal")


# -- Renewal --


async def test_what_nobody_foresaw_does_not_end_the_renewal(
    client: Redis, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ended with a traceback; the worker went on, and lost one lease after the other."""
    await lease(client)
    failures = Counter[str]()

    def frames() -> NoReturn:
        failures["look"] += 1
        raise LookupError("no such frame")

    def held() -> list[Attempt]:
        failures["held"] += 1
        if failures["held"] == 1:
            raise RuntimeError("unforeseen")
        return [attempt()]

    gauge = Gauge()
    gauge.current, gauge.began = Meter("endless"), 0.0
    monkeypatch.setattr(worker.watch.sys, "_current_frames", frames)
    monkeypatch.setattr(watching.watch, "_gauge", gauge)
    monkeypatch.setattr(watching.watch, "_held", held)

    await wait_renewals(watching, 3)

    assert failures == {"look": 1, "held": failures["held"]}
    assert failures["held"] > 1
    assert await client.get(keys.in_progress("one")) == FENCE
    assert await is_extended(client)


async def test_a_held_lease_is_extended_with_its_place_in_the_queue(
    client: Redis, watching: Watching
) -> None:
    await lease(client)
    watching.held = [attempt()]

    await wait_renewals(watching, 2)

    assert await client.get(keys.in_progress("one")) == FENCE
    assert await is_extended(client)
    seconds, micros = await client.time()
    due = await client.zscore(keys.IO_QUEUE, "one")
    assert due is not None
    assert due > seconds * 1000 + micros // 1000 + GRANTED_MS
    assert watching.lost == []


async def test_a_lease_of_another_attempt_is_reported_and_left_alone(
    client: Redis, watching: Watching
) -> None:
    await lease(client, fence=b"io-elsewhere:1")
    watching.held = [attempt()]

    await wait_renewals(watching, 2)

    assert ("one", FENCE) in watching.lost
    assert await client.get(keys.in_progress("one")) == b"io-elsewhere:1"
    assert not await is_extended(client)
    assert await client.zscore(keys.IO_QUEUE, "one") == 1


async def test_an_attempt_past_its_deadline_is_not_extended(
    client: Redis, watching: Watching
) -> None:
    await lease(client, "late", for_ms=SHORT_LEASE_MS)
    watching.held = [attempt("late", time.monotonic())]

    async def ended() -> bool:
        return not await client.exists(keys.in_progress("late"))

    await wait_until(ended, "the lease to end")
    assert watching.lost == []


async def test_more_leases_than_fit_into_one_call_are_all_extended(
    client: Redis, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.watch, "SETTLE_BATCH", 3)
    ids = [f"job-{number}" for number in range(10)]
    for one in ids:
        await lease(client, one)
    watching.held = [attempt(one) for one in ids]

    await wait_renewals(watching, 2)

    assert all([await is_extended(client, one) for one in ids])


async def test_a_server_that_forgot_the_script_gets_it_again(
    client: Redis, watching: Watching
) -> None:
    await lease(client)
    watching.held = [attempt()]
    await wait_renewals(watching, 1)

    await client.script_flush()
    await lease(client)
    await wait_renewals(watching, 2)

    assert await is_extended(client)


async def test_the_thread_goes_on_after_an_outage() -> None:
    server = Embedded.for_user("always")
    await asyncio.to_thread(server.start)
    try:
        watching = Watching(server.url)
        watching.watch.start()
        await wait_renewals(watching, 1)

        await asyncio.to_thread(server.stop)
        refused = watching.watch.renewed_at
        await asyncio.to_thread(server.start)
        await wait_renewals(watching, 2)

        assert watching.watch.is_alive()
        assert watching.watch.renewed_at > refused
        await asyncio.to_thread(watching.watch.close)
    finally:
        await asyncio.to_thread(server.stop)


def test_closing_ends_the_thread(broker: str) -> None:
    watching = Watching(broker)
    watching.watch.start()

    watching.watch.close()

    assert not watching.watch.is_alive()


def test_one_that_was_never_started_can_be_closed(broker: str) -> None:
    # A worker whose on_startup failed closed a thread that it had not started, and that raised.
    Watching(broker).watch.close()


# -- A job that blocks the loop --


class Rival:
    """Another worker, in a thread of its own, that takes every job that is due."""

    def __init__(self, url: str) -> None:
        self._client = connect_blocking(url)
        self._claim = CLAIM
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.claims = 0
        self.taken: list[bytes] = []

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            reply: Any = self._client.eval(
                self._claim.text, 2, keys.IO_QUEUE, keys.ABORTS,
                f"rival:{self.claims}", 60_000, 100, 1, CALL_BYTES,
            )  # fmt: skip
            self.taken += reply[2::5]
            self.claims += 1

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()


async def test_a_blocked_loop_keeps_the_leases_of_all_its_jobs(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival, lease_ms = Rival(broker), 2_000
    monkeypatch.setattr(worker.watch, "RENEWALS_PER_LEASE", lease_ms // 50)

    @job
    async def let_the_rival_in_and_block() -> None:
        rival.start()
        time.sleep(1.2 * lease_ms / 1000)  # noqa: ASYNC251  (what a job should not do)
        rival.end()

    registry = registry_of([let_the_rival_in_and_block, wait_for_go])
    async with hosted(broker, client, registry, lease_ms=lease_ms) as hosting:
        others = await enqueue(client, registry, "wait_for_go", *[{}] * 5)
        await hosting.wait_started(5)
        blocking = await enqueue(client, registry, "let_the_rival_in_and_block")
        (blocked,) = await outcomes(client, blocking)
        hosting.go.set()
        ended = await outcomes(client, others)

    assert rival.claims > 10
    assert rival.taken == [], "a lease was lost"
    assert [one.result for one in ended] == ["released"] * 5
    assert [one.try_ for one in ended] == [1] * 5
    assert blocked.success


async def test_the_record_says_where_a_job_blocked_the_loop_and_for_how_long(
    broker: str, client: Redis
) -> None:
    async with hosted(broker, client, REGISTRY):
        run = await enqueue(client, REGISTRY, "block", {"seconds": 1.2})
        (blocked,) = await outcomes(client, run)

    assert blocked.blocked_at is not None
    line = block.__code__.co_firstlineno + 2
    assert blocked.blocked_at == f"{__file__}:{line} in block"
    assert 1.2 <= blocked.hold_seconds <= blocked.run_seconds
    assert blocked.cpu_seconds < blocked.hold_seconds / 5


async def test_a_job_in_a_folder_whose_name_is_not_text_may_block_the_loop(
    broker: str, client: Redis
) -> None:
    # The thread that renews leases died of the name, and the job's outcome could not be encoded.
    names = {"__name__": "jobs"}
    source = "import time\nasync def hold():\n    time.sleep(1.2)\n"
    exec(compile(source, "/home/jos\udce9/jobs.py", "exec"), names)
    registry = registry_of([job(names["hold"])])
    async with hosted(broker, client, registry) as hosting:
        (held,) = await outcomes(client, await enqueue(client, registry, "hold"))

        assert hosting.watch is not None
        assert hosting.watch.is_alive()
    assert held.blocked_at == "/home/jos\\udce9/jobs.py:3 in hold"


async def test_a_job_that_waits_is_blamed_for_nothing(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.watch, "BLOCKED_SECONDS", 0.3)
    async with hosted(broker, client, REGISTRY) as hosting:
        waiting = await enqueue(client, REGISTRY, "wait_for_go")
        blocking = await enqueue(client, REGISTRY, "block", {"seconds": 1.0})
        (blocked,) = await outcomes(client, blocking)
        hosting.go.set()
        (waited,) = await outcomes(client, waiting)

    assert blocked.blocked_at is not None
    assert waited.blocked_at is None
    assert waited.hold_seconds < blocked.hold_seconds / 5


async def test_one_hold_is_reported_once(
    broker: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.watch, "BLOCKED_SECONDS", 0.05)
    gauge, meter = Gauge(), Meter("long_hold")
    watching = Watching(broker, gauge=gauge)
    gauge.current, gauge.began = meter, time.perf_counter()
    watching.watch.start()

    await wait_renewals(watching, 3)
    watching.watch.close()

    assert [record.args[0] for record in caplog.records if record.args] == ["long_hold"]
    assert meter.blocked_at is not None
