"""The engine: what it claims, and what becomes of each job that it claimed."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import date
from pathlib import Path
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

import worker.io
from producer.cancel import cancel_jobs, cancel_run
from tests.conftest import wait_until
from tests.worker.hosting import (
    SHORT_LEASE_MS,
    HostedWorker,
    enqueue,
    hosted,
    outcomes,
    recorded,
    registry_of,
)
from twolane import dead, fleet, job, keys, outcome, runs, wire
from twolane.outcome import Outcome
from twolane.registry import Backoff
from twolane.store import NewJob, Settlement, Store

AT_ONCE = Backoff(base=0.001)
FOREVER = 60.0


@job
async def add(left: int, right: int) -> int:
    return left + right


@job
async def wait_for_go(ctx: dict[str, Any]) -> str:
    ctx["started"].append(ctx["job_id"])
    await ctx["go"].wait()
    return f"try {ctx['job_try']}"


@job(retries=5)
async def wait_with_retries(ctx: dict[str, Any]) -> str:
    return str(await wait_for_go(ctx))


@job
async def note_cancellation(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    try:
        await ctx["go"].wait()
    except asyncio.CancelledError:
        ctx.setdefault("noted", ctx["started"]).append("cancelled")
        raise


@job
async def swallow_cancellation(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    while not ctx["go"].is_set():
        try:
            await ctx["go"].wait()
        except asyncio.CancelledError:
            ctx["started"].append("swallowed")


@job(retries=2, backoff=AT_ONCE)
async def fail_until(ctx: dict[str, Any], good_try: int) -> int:
    if ctx["job_try"] < good_try:
        raise ValueError(f"try {ctx['job_try']}")
    return int(ctx["job_try"])


@job
async def ask_for_another_try(ctx: dict[str, Any], until: int, defer: float) -> int:
    ctx["started"].append(str(ctx["job_try"]))
    if ctx["job_try"] < until:
        raise arq.Retry(defer=defer)
    return int(ctx["job_try"])


@job(retries=7, backoff=AT_ONCE)
async def ask_more_often(ctx: dict[str, Any]) -> None:
    raise arq.Retry


@job(retries=3, backoff=AT_ONCE)
async def return_opaque(ctx: dict[str, Any]) -> Any:
    ctx["started"].append(ctx["job_id"])
    return object()


@job
async def return_bytes(count: int) -> bytes:
    return bytes(count)


@job(retries=3)
async def weekday(day: date) -> int:
    return day.weekday()


@job(keep_result=0)
async def forget() -> str:
    return "not kept"


@job(keep_result=None)
async def remember() -> str:
    return "kept for good"


@job
async def burn(seconds: float) -> None:
    for _ in range(4):
        end = time.thread_time() + seconds / 4
        while time.thread_time() < end:
            pass
        await asyncio.sleep(0)


@job
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@job
async def see_context(ctx: dict[str, Any]) -> dict[str, Any]:
    child = await ctx["redis"].enqueue_job("add", 20, 22)
    return {
        "redis": type(ctx["redis"]).__name__,
        "child": child.job_id,
        **{key: ctx[key] for key in ("job_id", "job_try", "enqueue_time", "score")},
    }


@job
def compute() -> None:
    """Comes by the wrong queue here."""


REGISTRY = registry_of(
    [
        add, wait_for_go, note_cancellation, swallow_cancellation, fail_until, ask_for_another_try,
        ask_more_often, return_opaque, return_bytes, weekday, forget, remember, burn, sleep,
        see_context, compute, wait_with_retries,
    ]
)  # fmt: skip

Host = Callable[..., AbstractAsyncContextManager[HostedWorker]]


@pytest.fixture
def host(broker: str, client: Redis) -> Host:
    """Start a worker with all the jobs of this module."""
    return lambda **options: hosted(broker, client, REGISTRY, **options)


@pytest.fixture
async def running(host: Host) -> AsyncIterator[HostedWorker]:
    async with host() as worker:
        yield worker


async def one_outcome(client: Redis, function: str, **arguments: Any) -> Outcome:
    (one,) = await outcomes(client, await enqueue(client, REGISTRY, function, arguments))
    return one


async def put(client: Redis, payload: bytes, run: str = "test", ttl_ms: int = 0) -> str:
    """Enqueue bytes as a job of a run; the job's id."""
    await runs.create(client, "test", run)
    job_id = runs.job_id(run, 0)
    await Store(client).enqueue_many(keys.IO_QUEUE, [NewJob(job_id, payload, 0, ttl_ms)], run)
    await runs.seal(client, run)
    return job_id


def payload(function: str, *args: Any, **extra: Any) -> bytes:
    return wire.dumps(
        {"t": None, "f": function, "a": args, "k": {}, "et": 1_000, "run": "test", **extra}
    )


async def leases(client: Redis) -> list[str]:
    """The ids of the jobs that somebody holds."""
    found = [key async for key in client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")]
    return sorted(key.decode().removeprefix(keys.IN_PROGRESS_PREFIX) for key in found)


async def nothing_is_left(client: Redis) -> bool:
    """Neither waiting nor running, and no count of tries."""
    left = [key async for key in client.scan_iter(keys.RETRY_PREFIX + "*")]
    return not (left or await leases(client) or await client.zcard(keys.IO_QUEUE))


def holds(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return condition()

    return ask


# -- A job that goes well --


async def test_a_job_is_run_and_recorded_once(client: Redis, running: HostedWorker) -> None:
    run = await enqueue(client, REGISTRY, "add", *[{"left": n, "right": 1} for n in range(50)])
    ended = await outcomes(client, run)

    assert [one.result for one in ended] == list(range(1, 51))
    assert await recorded(client, run) == [runs.job_id(run, n) for n in range(50)]
    assert await nothing_is_left(client)


async def test_an_outcome_has_every_figure(client: Redis, running: HostedWorker) -> None:
    one = await one_outcome(client, "sleep", seconds=0.05)

    assert one.success
    assert one.lane == "io"
    assert one.worker == running.beat.worker
    assert one.try_ == 1
    assert one.wait_ms >= 0
    assert one.run_seconds >= 0.04  # a timer may go off early by its resolution
    assert 0 < one.cpu_seconds < one.run_seconds
    assert 0 < one.hold_seconds < one.run_seconds
    assert one.enqueued_ms <= one.started_ms <= one.finished_ms


async def test_a_computing_job_is_charged_and_a_sleeping_one_is_not(
    client: Redis, running: HostedWorker
) -> None:
    burning = await enqueue(client, REGISTRY, "burn", {"seconds": 0.2})
    sleeping = await enqueue(client, REGISTRY, "sleep", {"seconds": 0.2})
    (burned,), (slept,) = await outcomes(client, burning), await outcomes(client, sleeping)

    assert burned.cpu_seconds >= 0.2
    assert slept.cpu_seconds < burned.cpu_seconds / 5


async def test_a_jobs_context_is_arqs(client: Redis, running: HostedWorker) -> None:
    one = await one_outcome(client, "see_context")

    assert one.result["redis"] == ArqRedis.__name__
    assert one.result["job_id"] == one.id
    assert one.result["job_try"] == 1
    assert int(one.result["enqueue_time"].timestamp() * 1000) == one.enqueued_ms
    assert one.result["score"] == one.started_ms - one.wait_ms

    async def childs() -> bytes | None:
        return await client.get(keys.result(one.result["child"]))

    child = outcome.decode(await wait_until(childs, "the job that the job enqueued"))
    assert child.result == 42


@pytest.mark.parametrize(("function", "ttl_ms"), [("forget", -2), ("remember", -1)])
async def test_a_result_is_kept_for_as_long_as_the_job_says(
    client: Redis, running: HostedWorker, function: str, ttl_ms: int
) -> None:
    one = await one_outcome(client, function)

    assert one.success
    assert await client.pttl(keys.result(one.id)) == ttl_ms


# -- What it claims, and when --


async def test_a_worker_claims_no_more_than_its_free_slots(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 5)
    async with host(slots=2) as worker:
        await worker.wait_started(2)
        # A wake-up call is what would make it look for more.
        worker.engine.wake()
        await worker.pulse.send()

        assert await leases(client) == [runs.job_id(run, 0), runs.job_id(run, 1)]
        worker.go.set()
        await outcomes(client, run)

    assert len(worker.started) == 5


async def test_two_workers_share_a_queue_evenly_by_their_slots(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 4)
    async with host(slots=2) as one, host(slots=2) as two:
        await one.wait_started(2)
        await two.wait_started(2)
        one.go.set()
        two.go.set()
        await outcomes(client, run)

    assert sorted(one.started + two.started) == [runs.job_id(run, n) for n in range(4)]


async def test_a_slot_that_is_free_again_is_filled_at_once(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "sleep", *[{"seconds": 0.001}] * 20)
    async with host(slots=1) as worker:
        worker.engine.poll_delay_s = FOREVER

        assert len(await outcomes(client, run)) == 20


async def test_an_idle_worker_is_woken_by_a_producer(client: Redis, host: Host) -> None:
    async with host() as worker:
        worker.engine.poll_delay_s = FOREVER
        await one_outcome(client, "add", left=1, right=1)
        claims = worker.engine._claims  # it waits for its next poll now, in a minute

        assert (await one_outcome(client, "add", left=2, right=3)).result == 5
        assert worker.engine._claims > claims


async def test_a_delayed_job_starts_when_it_is_due(client: Redis, host: Host) -> None:
    async with host() as worker:
        worker.engine.poll_delay_s = FOREVER
        await one_outcome(client, "add", left=1, right=1)

        job_id = "later"
        seconds, micros = await client.time()
        await Store(client).enqueue_many(
            keys.IO_QUEUE, [NewJob(job_id, payload("add", 1, 2), delay_ms=300)]
        )

        async def result() -> bytes | None:
            return await client.get(keys.result(job_id))

        one = outcome.decode(await wait_until(result, "the delayed job"))
    assert one.started_ms >= seconds * 1000 + micros // 1000 + 300


async def test_what_a_dead_worker_held_is_claimed_when_its_lease_ends(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    claim = await Store(client).claim(keys.IO_QUEUE, "io-dead:1", 10, SHORT_LEASE_MS)
    assert len(claim.jobs) == 1
    async with host() as worker:
        worker.engine.poll_delay_s = FOREVER
        worker.go.set()

        (one,) = await outcomes(client, run)

    assert one.try_ == 2
    assert one.result == "try 2"
    assert one.started_ms >= claim.now_ms + SHORT_LEASE_MS


async def test_a_burst_ends_when_the_queue_is_empty(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "fail_until", *[{"good_try": 2}] * 3)
    async with host(burst=True, slots=2) as worker:
        assert worker.main is not None
        await asyncio.wait_for(asyncio.shield(worker.main), 10)

        assert [one.try_ for one in await runs_outcomes(client, run)] == [2, 2, 2]


async def runs_outcomes(client: Redis, run: str) -> list[Outcome]:
    return [one async for batch in runs.read_all(client, run) for one in batch]


# -- Failures and tries --


async def test_a_failing_job_gets_its_retries_and_its_record_counts_them(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=3)

    assert one.success
    assert (one.result, one.try_) == (3, 3)
    assert running.engine.jobs_retried == 2


async def test_a_job_out_of_retries_is_a_dead_letter_with_its_payload(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=9)

    assert not one.success
    assert one.try_ == 3
    assert one.error is not None
    assert (one.error.type, one.error.message) == ("ValueError", "try 3")
    assert "in fail_until" in one.error.traceback
    kept = wire.load_payload(await client.hget(keys.dead(one.id), "payload"))
    assert wire.loads(kept.kwargs) == {"good_try": 9}
    (letter,) = [letter async for letter in dead.letters(client, [one.id])]
    assert (letter.error, letter.tries, letter.run) == ("ValueError", 3, one.run)


async def test_a_dead_letter_that_is_revived_gets_a_fresh_set_of_tries(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=9)

    assert await Store(client).revive([one.id]) == []
    assert one.run is not None
    again = (await outcomes(client, one.run))[0]

    async def twice() -> bool:
        return len(await runs_outcomes(client, one.run or "")) == 2

    await wait_until(twice, "the second outcome")
    assert again.try_ == 3
    assert await dead.ids(client) == [one.id]


async def test_the_wait_before_a_retry_grows(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(retries=4, backoff=Backoff(base=1.0, factor=10.0, ceiling=1e6))
    async def fail() -> None:
        raise ValueError

    registry, waits = registry_of([fail]), []
    async with hosted(broker, client, registry) as worker:
        retry = worker.engine.acknowledger.retry

        def retry_at_once(job_id: str, fence: bytes, delay_ms: int) -> None:
            waits.append(delay_ms)
            retry(job_id, fence, 0)

        monkeypatch.setattr(worker.engine.acknowledger, "retry", retry_at_once)
        await outcomes(client, await enqueue(client, registry, "fail"))

    assert len(waits) == 4
    assert all(500 * 10**n <= wait <= 1000 * 10**n for n, wait in enumerate(waits)), waits


async def test_arqs_retry_is_honoured_beyond_the_jobs_own_retries(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "ask_for_another_try", until=3, defer=0.01)

    assert (one.result, one.try_) == (3, 3)


async def test_arqs_retry_waits_for_as_long_as_it_says(
    client: Redis, running: HostedWorker
) -> None:
    run = await enqueue(client, REGISTRY, "ask_for_another_try", {"until": 2, "defer": FOREVER})
    await running.wait_started()

    async def due() -> float | None:
        return (
            None if await leases(client) else await client.zscore(keys.IO_QUEUE, f"{run}-0000000")
        )

    seconds, _ = await client.time()
    left = await wait_until(due, "the job back in the queue") / 1000 - seconds
    assert FOREVER - 10 < left <= FOREVER + 1


@pytest.mark.parametrize(
    ("function", "arguments", "tries"),
    [("ask_for_another_try", {"until": 99, "defer": 0.0}, 5), ("ask_more_often", {}, 8)],
)
async def test_arqs_retry_is_limited(
    client: Redis, running: HostedWorker, function: str, arguments: dict[str, Any], tries: int
) -> None:
    one = await one_outcome(client, function, **arguments)

    assert not one.success
    assert one.try_ == tries
    assert one.error is not None
    assert one.error.type == "Retry"
    assert await dead.ids(client) == [one.id]


# -- Payloads that cannot run --


# An argument of an extension type that nobody knows.
UNREADABLE_ARGUMENT = payload("add", "?", 1).replace(b"\xa1?", b"\xd4\x55\x00")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def bad_payloads(tmp_path: Path) -> dict[str, bytes]:
    return {
        "UnknownFunction": payload("nobody_knows"),
        "WrongLane": payload("compute"),
        "UndecodablePayload": b"\xc1\x00 garbage",
        "UndecodablePayload ": b"",
        "UndecodablePayload  ": pickle.dumps({"f": "add", "bomb": Bomb(tmp_path / "boom")}),
        "UndecodablePayload   ": payload("add", 1, 2)[:-3],
        "UndecodablePayload    ": wire.dumps(["not", "a", "job"]),
        "UndecodablePayload     ": UNREADABLE_ARGUMENT,
        "BadArguments": payload("weekday", "no day"),
        "BadArguments ": payload("weekday"),
        "BadArguments  ": payload("add", 1),
        "BadArguments   ": payload("add", 1, 2, 3),
        "PayloadTooLarge": payload("add", bytes(wire.MAX_PAYLOAD_BYTES), 1),
        "ResultNotEncodable": payload("return_opaque"),
        "ResultTooLarge": payload("return_bytes", wire.MAX_RESULT_BYTES + 1),
    }


BAD = list(bad_payloads(Path()))


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_payload_is_a_recorded_failure_and_a_dead_letter(
    client: Redis, running: HostedWorker, tmp_path: Path, name: str
) -> None:
    data = bad_payloads(tmp_path)[name]
    job_id = await put(client, data)

    (one,) = await outcomes(client, "test")

    assert not one.success
    assert one.id == job_id
    assert one.try_ == 1, "it is tried once: another try would meet the same"
    assert one.error is not None
    assert one.error.type == name.strip()
    assert await dead.ids(client) == [job_id]
    assert await client.hget(keys.dead(job_id), "payload") == data
    assert await nothing_is_left(client)
    assert not (tmp_path / "boom").exists(), "something was unpickled"
    assert (await one_outcome(client, "add", left=2, right=3)).result == 5


async def test_an_expired_payload_is_a_recorded_failure(client: Redis, host: Host) -> None:
    job_id = await put(client, payload("add", 1, 2), ttl_ms=1)

    async def expired() -> bool:
        return not await client.exists(keys.job(job_id))

    await wait_until(expired, "the payload to expire")
    async with host():
        (one,) = await outcomes(client, "test")

    assert one.error is not None
    assert one.error.type == "ExpiredPayload"
    assert await dead.ids(client) == [job_id]


async def test_a_job_whose_workers_died_once_too_often_is_given_up(
    client: Redis, host: Host
) -> None:
    job_id = await put(client, payload("add", 1, 2))
    await client.set(keys.retry(job_id), 5)
    async with host():
        (one,) = await outcomes(client, "test")

    assert one.error is not None
    assert one.error.type == "TriesExhausted"
    assert one.try_ == 6
    assert await dead.ids(client) == [job_id]


async def test_jobs_at_their_last_chance_run_one_at_a_time(client: Redis, host: Host) -> None:
    # One of them killed its worker each time, and all that ran beside it were given up with it.
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    for number in range(3):
        await client.set(keys.retry(runs.job_id(run, number)), 4)
    async with host() as worker:
        await worker.wait_started()
        (tried,) = worker.started
        others = [one for n in range(3) if (one := runs.job_id(run, n)) != tried]

        async def handed_back() -> bool:
            return await client.mget(*map(keys.retry, others)) == [b"4", b"4"]

        await wait_until(handed_back, "the others' fifth try given back")
        fresh = await enqueue(client, REGISTRY, "add", {"left": 1, "right": 2})
        assert (await outcomes(client, fresh))[0].result == 3  # new jobs start beside it
        assert worker.started == [tried]
        worker.go.set()
        ended = await outcomes(client, run)

    assert [one.try_ for one in ended] == [5, 5, 5]
    assert all(one.success for one in ended)


async def test_what_is_handed_back_for_a_last_chance_is_back_before_it_begins(
    client: Redis, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first step of the one that runs may be the end of the process.
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    for number in range(3):
        await client.set(keys.retry(runs.job_id(run, number)), 4)
    seen: list[bool] = []
    start = worker.io.IoLane.start

    def look_and_start(self: Any, attempt: Any) -> None:
        seen.append(len(told) == 2)
        start(self, attempt)

    told: list[str] = []
    exchange = Store.exchange

    async def note(self: Store, queue: str, report: Any, request: Any) -> Any:
        answer = await exchange(self, queue, report, request)
        told.extend(one[0] for one in report.releases)
        return answer

    monkeypatch.setattr(worker.io.IoLane, "start", look_and_start)
    monkeypatch.setattr(Store, "exchange", note)

    async with host() as hosted_worker:
        await hosted_worker.wait_started()
        hosted_worker.go.set()
        await outcomes(client, run)

    assert seen[0]


async def test_a_job_whose_own_retries_take_it_far_is_not_held_up(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_with_retries", *[{}] * 3)
    for number in range(3):
        await client.set(keys.retry(runs.job_id(run, number)), 5)

    async with host() as worker:
        await worker.wait_started(3)
        worker.go.set()
        ended = await outcomes(client, run)

    assert [one.try_ for one in ended] == [6, 6, 6]


async def test_a_job_that_fails_has_one_outcome_in_its_runs_totals(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=9)

    assert one.run is not None
    run = await runs.get(client, one.run)
    assert (run.done, run.failed, run.cancelled) == (0, 1, 0)


# -- Cancellation --


async def test_a_waiting_job_is_cancelled_at_once(client: Redis) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)

    assert await cancel_run(client, run) == (3, 0)
    ended = await outcomes(client, run)

    assert [one.cancelled for one in ended] == [True] * 3
    assert await nothing_is_left(client)


async def test_a_running_job_is_stopped_without_waiting_for_the_next_heartbeat(
    client: Redis, running: HostedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.heartbeat.PERIOD_SECONDS", FOREVER)
    first = await one_outcome(client, "add", left=1, right=1)
    assert first.success
    running.pulse.hurry()
    run = await enqueue(client, REGISTRY, "note_cancellation")
    await running.wait_started()

    assert await cancel_run(client, run) == (0, 1)
    (one,) = await outcomes(client, run)

    assert one.cancelled
    assert running.started[-1] == "cancelled"
    assert await client.zcard(keys.ABORTS) == 0
    assert await dead.ids(client) == []


async def test_an_abort_is_seen_among_a_thousand_that_nobody_answered(
    client: Redis, running: HostedWorker
) -> None:
    # arq's Job.abort leaves its request behind where the job was over already.
    seconds, _ = await client.time()
    stale = {f"over-{number}": (seconds - 60) * 1000 for number in range(1_000)}
    await client.zadd(keys.ABORTS, stale)
    run = await enqueue(client, REGISTRY, "wait_for_go")
    await running.wait_started()

    await cancel_run(client, run)

    assert (await outcomes(client, run))[0].cancelled


async def test_a_cancelled_job_that_does_not_let_go_is_settled_after_the_grace(
    client: Redis, running: HostedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.io, "CANCEL_GRACE_SECONDS", 0.1)
    run = await enqueue(client, REGISTRY, "swallow_cancellation")
    await running.wait_started()

    try:
        await cancel_run(client, run)
        (one,) = await outcomes(client, run)
        assert not running.engine.running, "its slot is free"
    finally:
        running.go.set()

    assert one.cancelled
    assert running.started[-1] == "swallowed"


async def test_cancelling_one_job_leaves_the_others_alone(
    client: Redis, running: HostedWorker
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    await running.wait_started(3)

    await cancel_jobs(client, [runs.job_id(run, 1)])

    async def settled() -> bool:
        return (await runs.get(client, run)).settled == 1

    await wait_until(settled, "the cancellation")
    running.go.set()
    assert [one.cancelled for one in await outcomes(client, run)] == [False, True, False]


# -- Leases and fences --


async def test_a_late_outcome_is_refused_and_counted(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    store = Store(client)
    async with host(watched=False, lease_ms=SHORT_LEASE_MS) as worker:
        await worker.wait_started()

        async def others() -> Any:
            return (await store.claim(keys.IO_QUEUE, "io-other:1", 1, 60_000)).jobs

        worker.engine.drain()  # it would claim the job again itself
        (job_,) = await wait_until(others, "the lease to end")
        theirs = Settlement(
            job_.id, job_.fence, _record(job_.id, run, "theirs"), 60_000, "done", "wait_for_go", run
        )
        worker.go.set()
        await wait_until(holds(lambda: worker.beat.fenced == 1), "a fenced outcome")

        assert not await client.exists(keys.result(job_.id))
        assert await client.get(keys.in_progress(job_.id)) == b"io-other:1"
        assert await store.acknowledge(keys.IO_QUEUE, [theirs]) == []

    (one,) = await outcomes(client, run)
    assert one.result == "theirs"
    assert await recorded(client, run) == [job_.id]
    assert await client.hget(keys.counters(keys.IO_QUEUE), "fenced") == b"1"


def _record(job_id: str, run: str, result: str) -> bytes:
    whole, _ = outcome.encode(
        Outcome(
            try_=2, function="wait_for_go", args=[], kwargs={}, enqueued_ms=0, success=True,
            result=result, started_ms=0, finished_ms=0, queue=keys.IO_QUEUE, id=job_id, run=run,
        )
    )  # fmt: skip
    return whole


async def test_a_job_whose_lease_was_lost_is_stopped(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "note_cancellation")
    job_id = runs.job_id(run, 0)
    async with host(lease_ms=2_000) as worker:
        await worker.wait_started()

        await client.set(keys.in_progress(job_id), "io-other:1", px=60_000)
        await wait_until(holds(lambda: "cancelled" in worker.started), "the job to be stopped")

        await wait_until(holds(lambda: not worker.engine.running), "its slot to be free")
        assert worker.beat.fenced == 1
    assert not await client.exists(keys.result(job_id))
    assert await client.get(keys.in_progress(job_id)) == b"io-other:1"


async def test_a_worker_that_claims_its_own_lost_job_again_settles_it_once(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    async with host(watched=False, lease_ms=SHORT_LEASE_MS) as worker:
        await worker.wait_started(2)  # its lease ended, and it claimed the job again
        worker.engine.lease_ms = 60_000
        worker.go.set()
        (one,) = await outcomes(client, run)

    assert one.try_ in (2, 3)
    assert await recorded(client, run) == [one.id]


# -- The end --


async def test_a_draining_worker_claims_nothing_more(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    async with host() as worker:
        await worker.wait_started()

        worker.engine.drain()
        assert worker.main is not None
        await asyncio.wait_for(worker.main, 5)
        late = await enqueue(client, REGISTRY, "wait_for_go")
        worker.go.set()
        (one,) = await outcomes(client, run)

    assert one.success
    assert len(worker.started) == 1
    assert (await runs.get(client, late)).settled == 0
    assert not await client.exists(keys.retry(runs.job_id(late, 0)))


async def test_jobs_that_arrive_with_the_drain_are_handed_back_unstarted(
    client: Redis, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The claim is on its way when the drain begins: its jobs must not start, nor cost a try.
    async with host() as worker:
        await one_outcome(client, "add", left=1, right=1)
        exchange = worker.engine.store.exchange

        async def claim_then_drain(*args: Any) -> Any:
            answer = await exchange(*args)
            if answer.claim and answer.claim.jobs:
                worker.engine.drain()
            return answer

        monkeypatch.setattr(worker.engine.store, "exchange", claim_then_drain)
        run = await enqueue(client, REGISTRY, "wait_for_go")
        assert worker.main is not None
        await asyncio.wait_for(worker.main, 10)
        await worker.engine.settle_all()

    assert worker.started == []
    assert not await client.exists(keys.retry(runs.job_id(run, 0)))


async def test_what_does_not_end_in_time_is_handed_back_without_using_up_a_try(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    due = await client.zrange(keys.IO_QUEUE, 0, -1, withscores=True)
    async with host() as worker:
        await worker.wait_started(3)

    assert await leases(client) == []
    assert await client.zrange(keys.IO_QUEUE, 0, -1, withscores=True) == due
    assert [key async for key in client.scan_iter(keys.RETRY_PREFIX + "*")] == []

    async with host() as other:
        other.go.set()
        assert [one.try_ for one in await outcomes(client, run)] == [1, 1, 1]


async def test_a_heartbeat_says_what_a_worker_does(client: Redis, running: HostedWorker) -> None:
    await one_outcome(client, "add", left=1, right=1)
    await one_outcome(client, "fail_until", good_try=9)
    run = await enqueue(client, REGISTRY, "wait_for_go")
    await running.wait_started()

    running.pulse.hurry()

    async def busy() -> fleet.Heartbeat | None:
        (beat,) = await fleet.workers(client)
        return beat if beat.busy else None

    beat = await wait_until(busy, "a heartbeat with a running job")
    assert (beat.slots, beat.busy, beat.done, beat.failed, beat.retried) == (10, 1, 1, 1, 2)
    assert beat.memory_bytes > 0
    running.go.set()
    await outcomes(client, run)
