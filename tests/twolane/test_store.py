"""The queue operations, outcome by outcome: one suite for fakeredis and for a real Valkey.

What a test needs to happen in time (a lease that ends, a payload that expires) is brought about by
what the server would do then: the key is deleted, the score lies in the past.

The file is long because it is one table: every operation, every state that it may meet.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import hiredis
import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from twolane import keys, wire
from twolane.broker import connect
from twolane.store import (
    CANCELLED_KEEP_MS,
    ENQUEUE_BATCH,
    MAX_CLAIM,
    RUN_TTL_SECONDS,
    SETTLE_BATCH,
    Cancellation,
    Claim,
    ClaimedJob,
    Kind,
    NewJob,
    Settlement,
    Store,
    batches,
    renewal,
)

QUEUE = keys.IO_QUEUE
LEASE_MS = 60_000
HOUR_MS = 3_600_000


class Calls:
    """A client that notes each script call on its way to the server."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.connection_pool = self
        self.made: list[list[bytes]] = []

    async def get_connection(self) -> Calls:
        self.connection = await self.client.connection_pool.get_connection()
        return self

    async def release(self, _: Calls) -> None:
        await self.client.connection_pool.release(self.connection)

    async def send_packed_command(self, packed: list[bytes]) -> None:
        reader = hiredis.Reader()
        reader.feed(b"".join(packed))
        command = reader.gets()
        if command[0] == b"EVALSHA":
            self.made.append(command[1:])
        await self.connection.send_packed_command(packed)

    async def read_response(self) -> Any:
        return await self.connection.read_response()


class Place:
    """A broker with one queue, and short words for what the tests do with it."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.calls = Calls(client)
        self.store = Store(cast(Redis, self.calls))
        self._fences = itertools.count(1)

    async def enqueue(self, *ids: str, run: str = "", delay_ms: int = 0) -> list[str]:
        jobs = [NewJob(one, f"payload of {one}".encode(), delay_ms) for one in ids]
        return await self.store.enqueue_many(QUEUE, jobs, run)

    async def claim(self, count: int = 10, lease_ms: int = LEASE_MS) -> Claim:
        return await self.store.claim(QUEUE, f"fence-{next(self._fences)}", count, lease_ms)

    async def running(self, *ids: str, run: str = "") -> list[ClaimedJob]:
        """Jobs that were enqueued and claimed."""
        await self.enqueue(*ids, run=run)
        claim = await self.claim(len(ids))
        assert sorted(one.id for one in claim.jobs) == sorted(ids)
        return claim.jobs

    async def settle(
        self,
        jobs: Iterable[ClaimedJob],
        kind: Kind = "done",
        *,
        keep_ms: int = HOUR_MS,
        run: str = "",
        entry: bytes = b"",
        result: bytes = b"result",
    ) -> list[str]:
        settled = [
            Settlement(one.id, one.fence, result, keep_ms, kind, "work", run, entry) for one in jobs
        ]
        return await self.store.acknowledge(QUEUE, settled)

    async def cancel(self, *ids: str, run: str = "") -> tuple[int, int]:
        return await self.store.cancel(QUEUE, [Cancellation(one, b"cancelled", run) for one in ids])

    async def end_lease(self, job_id: str) -> None:
        """What time does to a lease that nobody renews."""
        await self.client.delete(keys.in_progress(job_id))
        await self.make_due(job_id)

    async def make_due(self, job_id: str, *, ago_ms: int = 1) -> None:
        await self.client.zadd(QUEUE, {job_id: await self.now_ms() - ago_ms})

    async def now_ms(self) -> int:
        seconds, micros = await self.client.time()
        return seconds * 1000 + micros // 1000

    async def due_ms(self, job_id: str) -> int | None:
        score = await self.client.zscore(QUEUE, job_id)
        return None if score is None else int(score)

    async def waiting(self) -> list[str]:
        return [one.decode() for one in await self.client.zrange(QUEUE, 0, -1)]

    async def counters(self) -> dict[str, int]:
        found = await self.client.hgetall(keys.counters(QUEUE))  # type: ignore[misc]
        return {name.decode(): int(value) for name, value in found.items()}

    async def run_fields(self, run: str) -> dict[str, int]:
        found = await self.client.hgetall(keys.run(run))  # type: ignore[misc]
        return {name.decode(): int(value) for name, value in found.items()}

    async def outcomes(self, run: str) -> list[bytes]:
        entries = await self.client.xrange(keys.run_outcomes(run))
        return [one for _, fields in entries for one in fields.values()]

    async def everything(self) -> dict[str, Any]:
        """All that the broker holds, the queue's counters aside."""
        held: dict[str, Any] = {}
        for raw in await self.client.keys("*"):
            name = raw.decode()
            kind = await self.client.type(name)
            if kind == b"string":
                held[name] = await self.client.get(name)
            elif kind == b"zset":
                held[name] = await self.client.zrange(name, 0, -1, withscores=True)
            elif kind == b"hash":
                held[name] = await self.client.hgetall(name)  # type: ignore[misc]
            else:
                held[name] = await self.client.xrange(name)
        held.pop(keys.counters(QUEUE), None)
        return held

    @asynccontextmanager
    async def listening(self, *queues: str) -> AsyncIterator[list[tuple[str, bytes]]]:
        """What is published on the queues' wake channels within the block."""
        heard: list[tuple[str, bytes]] = []
        async with self.client.pubsub() as pubsub:
            await pubsub.subscribe(*[keys.wake(one) for one in queues or (QUEUE,)])
            yield heard
            # A message of our own, behind all the others: nothing is left to wait for.
            await self.client.publish(keys.wake((queues or (QUEUE,))[0]), b"the end")
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=10)
                if message is None:
                    continue
                if message["data"] == b"the end":
                    return
                heard.append((message["channel"].decode(), message["data"]))


@pytest.fixture(params=["fakeredis", "valkey"])
def url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty broker; None for fakeredis."""
    return request.getfixturevalue("broker") if request.param == "valkey" else None


@pytest.fixture
async def place(url: str | None) -> AsyncIterator[Place]:
    client = FakeAsyncRedis(server=FakeServer()) if url is None else connect(url)
    yield Place(client)
    await client.aclose()


@pytest.fixture
async def valkey_place(client: Redis) -> Place:
    """For what fakeredis cannot show."""
    return Place(client)


def fresh(jobs: Sequence[ClaimedJob]) -> list[str]:
    return [one.id for one in jobs]


# --- enqueue


async def test_an_enqueued_job_waits_with_its_payload_and_is_due_at_once(place: Place) -> None:
    before = await place.now_ms()

    refused = await place.enqueue("a")

    assert refused == []
    assert await place.client.get(keys.job("a")) == b"payload of a"
    assert before <= cast(int, await place.due_ms("a")) <= await place.now_ms()
    assert await place.client.pttl(keys.job("a")) == -1
    assert await place.counters() == {"enqueued": 1}


async def test_a_waiting_job_is_refused_and_left_as_it_is(place: Place) -> None:
    await place.enqueue("a", delay_ms=HOUR_MS)
    before = await place.everything()

    refused = await place.store.enqueue_many(QUEUE, [NewJob("a", b"another payload")])

    assert refused == ["a"]
    assert await place.everything() == before
    assert await place.counters() == {"enqueued": 1}


async def test_a_running_job_is_refused_and_keeps_its_lease(place: Place) -> None:
    await place.running("a")
    before = await place.everything()

    refused = await place.enqueue("a")

    assert refused == ["a"]
    assert await place.everything() == before


async def test_a_job_whose_result_is_kept_is_refused(place: Place) -> None:
    await place.settle(await place.running("a"))

    refused = await place.enqueue("a")

    assert refused == ["a"]
    assert await place.waiting() == []


async def test_a_job_may_be_enqueued_again_once_its_result_is_gone(place: Place) -> None:
    await place.settle(await place.running("a"))
    await place.client.delete(keys.result("a"))

    refused = await place.enqueue("a")

    assert refused == []
    assert fresh((await place.claim()).jobs) == ["a"]


async def test_a_job_whose_result_was_not_to_be_kept_may_be_enqueued_again(place: Place) -> None:
    await place.settle(await place.running("a"), keep_ms=0)

    refused = await place.enqueue("a")

    assert refused == []


async def test_the_same_id_twice_in_one_call_is_accepted_once(place: Place) -> None:
    refused = await place.store.enqueue_many(
        QUEUE, [NewJob("a", b"first"), NewJob("b", b""), NewJob("a", b"second")], "r"
    )

    assert refused == ["a"]
    assert await place.client.get(keys.job("a")) == b"first"
    assert await place.run_fields("r") == {"total": 2}


async def test_enqueuing_again_after_a_lost_reply_counts_nothing_twice(place: Place) -> None:
    await place.enqueue("a", "b", run="r")

    refused = await place.enqueue("a", "b", run="r")

    assert refused == ["a", "b"]
    assert await place.run_fields("r") == {"total": 2}
    assert await place.counters() == {"enqueued": 2}


async def test_a_call_that_was_half_known_accepts_the_other_half(place: Place) -> None:
    await place.enqueue("b", run="r")

    refused = await place.enqueue("a", "b", "c", run="r")

    assert refused == ["b"]
    assert sorted(await place.waiting()) == ["a", "b", "c"]
    assert await place.run_fields("r") == {"total": 3}


async def test_a_run_expires_seven_days_after_its_last_enqueue(place: Place) -> None:
    await place.enqueue("a", run="r")

    assert 0 < await place.client.ttl(keys.run("r")) <= RUN_TTL_SECONDS == 7 * 24 * 3600


async def test_a_delayed_job_is_due_later(place: Place) -> None:
    before = await place.now_ms()
    await place.enqueue("a", delay_ms=HOUR_MS)

    claim = await place.claim()

    assert claim.jobs == []
    due = cast(int, await place.due_ms("a"))
    assert before + HOUR_MS <= due <= await place.now_ms() + HOUR_MS
    assert claim.next_due_ms == due


async def test_a_payload_with_a_time_to_live_expires(place: Place) -> None:
    await place.store.enqueue_many(QUEUE, [NewJob("a", b"", ttl_ms=HOUR_MS)])

    assert 0 < await place.client.pttl(keys.job("a")) <= HOUR_MS


async def test_payloads_are_any_bytes(place: Place) -> None:
    payload = bytes(range(256)) * 3
    await place.store.enqueue_many(QUEUE, [NewJob("a", payload), NewJob("b", b"")])

    claim = await place.claim()

    assert [one.payload for one in claim.jobs] == [payload, b""]


async def test_ids_are_any_text(place: Place) -> None:
    ids = ["übung", "two words", "a:b", "0", "-1", "\n"]
    await place.enqueue(*ids)

    claim = await place.claim()

    assert sorted(one.id for one in claim.jobs) == sorted(ids)
    assert await place.settle(claim.jobs) == []


async def test_jobs_beyond_one_batch_are_all_accepted(place: Place) -> None:
    ids = [f"j{n:05d}" for n in range(2_500)]

    refused = await place.enqueue(*ids, run="r")

    assert refused == []
    assert await place.client.zcard(QUEUE) == 2_500
    assert len([call for call in place.calls.made if len(call) > 4]) == 5
    assert await place.run_fields("r") == {"total": 2_500}


async def test_refused_jobs_of_every_batch_are_named(place: Place) -> None:
    ids = [f"j{n:05d}" for n in range(2_500)]
    known = [ids[0], ids[1_500], ids[2_499]]
    await place.enqueue(*known)

    refused = await place.enqueue(*ids)

    assert refused == known


async def test_ten_producers_at_once_enqueue_each_job_once(broker: str) -> None:
    clients = [connect(broker) for _ in range(10)]
    ids = [f"j{n}" for n in range(50)]
    try:
        answers = await asyncio.gather(*(Place(one).enqueue(*ids, run="r") for one in clients))

        place = Place(clients[0])
        assert sum(len(refused) for refused in answers) == 9 * 50
        assert await place.run_fields("r") == {"total": 50}
        assert await place.counters() == {"enqueued": 50}
        assert len((await place.claim(1_000)).jobs) == 50
    finally:
        for one in clients:
            await one.aclose()


async def test_accepted_jobs_wake_the_workers_of_their_queue(place: Place) -> None:
    async with place.listening(QUEUE, keys.CPU_QUEUE) as heard:
        await place.enqueue("a", "b")

    assert heard == [(keys.wake(QUEUE), b"work")]


async def test_refused_jobs_wake_nobody(place: Place) -> None:
    await place.enqueue("a")

    async with place.listening() as heard:
        await place.enqueue("a")

    assert heard == []


# --- claim


async def test_a_claim_of_an_empty_queue_is_empty(place: Place) -> None:
    before = await place.now_ms()

    claim = await place.claim()

    assert (claim.jobs, claim.next_due_ms) == ([], None)
    assert before <= claim.now_ms <= await place.now_ms()


async def test_a_claimed_job_comes_with_all_that_its_worker_needs(place: Place) -> None:
    await place.enqueue("a")
    due = await place.due_ms("a")

    claim = await place.store.claim(QUEUE, "my fence", 10, LEASE_MS)

    assert due is not None
    assert claim.jobs == [ClaimedJob("a", b"payload of a", 1, due, False, b"my fence")]


async def test_a_claimed_job_is_held_by_the_fence_until_the_end_of_the_lease(place: Place) -> None:
    await place.enqueue("a")

    claim = await place.store.claim(QUEUE, "my fence", 10, LEASE_MS)

    assert await place.client.get(keys.in_progress("a")) == b"my fence"
    assert 0 < await place.client.pttl(keys.in_progress("a")) <= LEASE_MS
    assert await place.due_ms("a") == claim.now_ms + LEASE_MS


async def test_a_job_is_claimed_once(place: Place) -> None:
    await place.enqueue("a", "b")

    first, second = await place.claim(), await place.claim()

    assert fresh(first.jobs) == ["a", "b"]
    assert second.jobs == []


async def test_ten_workers_at_once_claim_each_job_once(broker: str) -> None:
    clients = [connect(broker) for _ in range(10)]
    ids = [f"j{n:03d}" for n in range(95)]
    try:
        await Place(clients[0]).enqueue(*ids)

        claims = await asyncio.gather(
            *(Store(one).claim(QUEUE, f"w{n}", 10, LEASE_MS) for n, one in enumerate(clients))
        )

        assert sorted(one.id for claim in claims for one in claim.jobs) == ids
    finally:
        for one in clients:
            await one.aclose()


async def test_jobs_that_are_due_at_once_come_in_the_order_of_their_ids(place: Place) -> None:
    await place.enqueue("c", "a", "d", "b")

    claim = await place.claim(3)

    assert fresh(claim.jobs) == ["a", "b", "c"]


async def test_the_longest_due_job_comes_first(place: Place) -> None:
    await place.enqueue("a", "b", "c")
    await place.make_due("c", ago_ms=5_000)
    await place.make_due("b", ago_ms=9_000)

    claim = await place.claim()

    assert fresh(claim.jobs) == ["b", "c", "a"]


async def test_a_claim_takes_no_more_than_it_asks_for(place: Place) -> None:
    await place.enqueue("a", "b", "c")

    claim = await place.claim(2)

    assert fresh(claim.jobs) == ["a", "b"]
    assert claim.next_due_ms is None
    assert await place.client.exists(keys.in_progress("c")) == 0


async def test_a_claim_of_nothing_takes_nothing(place: Place) -> None:
    await place.enqueue("a")

    claim = await place.claim(0)

    assert claim.jobs == []
    assert await place.client.exists(keys.in_progress("a"), keys.retry("a")) == 0


async def test_one_claim_takes_a_thousand_jobs_at_the_most(place: Place) -> None:
    await place.enqueue(*(f"j{n:05d}" for n in range(MAX_CLAIM + 1)))

    first, second = await place.claim(5_000), await place.claim(5_000)

    assert fresh(first.jobs) == [f"j{n:05d}" for n in range(1_000)]
    assert {one.payload for one in first.jobs} == {
        f"payload of {one.id}".encode() for one in first.jobs
    }
    assert fresh(second.jobs) == ["j01000"]


async def test_the_next_due_time_is_the_end_of_the_earliest_lease(place: Place) -> None:
    await place.enqueue("a")
    first = await place.claim(lease_ms=LEASE_MS)
    await place.enqueue("z", delay_ms=HOUR_MS)

    second = await place.claim()

    assert second.next_due_ms == first.now_ms + LEASE_MS


async def test_a_job_that_a_stock_arq_worker_runs_is_passed_over(place: Place) -> None:
    await place.enqueue("a", "b", "c")
    await place.client.set(keys.in_progress("b"), b"1", px=LEASE_MS)
    before = await place.due_ms("b")

    claim = await place.claim()

    assert fresh(claim.jobs) == ["a", "c"]
    assert await place.client.get(keys.in_progress("b")) == b"1"
    assert await place.due_ms("b") == before
    assert await place.client.exists(keys.retry("b")) == 0


async def test_held_jobs_in_front_do_not_hide_the_free_ones(place: Place) -> None:
    held = [f"a{n:03d}" for n in range(150)]
    await place.enqueue(*held, "z1", "z2", "z3")
    await place.client.mset({keys.in_progress(one): b"1" for one in held})

    claim = await place.claim(2)

    assert fresh(claim.jobs) == ["z1", "z2"]


async def test_held_jobs_among_free_ones_are_all_passed_over(place: Place) -> None:
    ids = [f"j{n:03d}" for n in range(40)]
    await place.enqueue(*ids)
    await place.client.mset({keys.in_progress(one): b"1" for one in ids[::2]})

    claim = await place.claim(100)

    assert fresh(claim.jobs) == ids[1::2]


async def test_a_claim_ends_when_it_has_passed_over_a_thousand_held_jobs(place: Place) -> None:
    held = [f"a{n:04d}" for n in range(1_000)]
    await place.enqueue(*held, "z")
    await place.client.mset({keys.in_progress(one): b"1" for one in held})

    claim = await place.claim()

    assert claim.jobs == []


async def test_an_expired_payload_is_claimed_as_none(place: Place) -> None:
    await place.enqueue("a", "b", "c")
    await place.client.delete(keys.job("b"))

    claim = await place.claim()

    assert [(one.id, one.payload) for one in claim.jobs] == [
        ("a", b"payload of a"),
        ("b", None),
        ("c", b"payload of c"),
    ]


async def test_an_expired_last_payload_is_claimed_as_none(place: Place) -> None:
    await place.enqueue("a", "b")
    await place.client.delete(keys.job("b"))

    claim = await place.claim()

    assert [one.payload for one in claim.jobs] == [b"payload of a", None]
    assert claim.jobs[1].try_ == 1


async def test_a_lease_that_ends_makes_the_job_due_for_its_next_try(place: Place) -> None:
    await place.running("a")
    await place.end_lease("a")

    claim = await place.claim()

    assert [(one.id, one.try_) for one in claim.jobs] == [("a", 2)]


async def test_the_server_itself_ends_a_lease(valkey_place: Place) -> None:
    place = valkey_place
    await place.enqueue("a")
    first = await place.claim(lease_ms=1)

    async with asyncio.timeout(10):
        while not (second := await place.claim()).jobs:
            pass

    assert second.now_ms > first.now_ms
    assert second.jobs[0].try_ == 2


async def test_tries_are_counted_for_about_a_day(place: Place) -> None:
    await place.running("a")

    assert 86_400 < await place.client.ttl(keys.retry("a")) <= 88_400


async def test_an_abort_that_was_asked_for_comes_with_the_claim(place: Place) -> None:
    await place.enqueue("a", "b")
    await place.client.zadd(keys.ABORTS, {"b": await place.now_ms()})

    claim = await place.claim()

    assert [(one.id, one.abort) for one in claim.jobs] == [("a", False), ("b", True)]


async def test_a_score_with_a_fraction_is_claimed(place: Place) -> None:
    # arq's own clients may write one: a score is a float.
    await place.enqueue("a")
    await place.client.zadd(QUEUE, {"a": 1234.5})

    claim = await place.claim()

    assert claim.jobs[0].due_ms == 1234


async def test_the_queues_do_not_mix(place: Place) -> None:
    await place.enqueue("a")
    await place.store.enqueue_many(keys.CPU_QUEUE, [NewJob("b", b"")])

    claim = await place.store.claim(keys.CPU_QUEUE, "f", 10, LEASE_MS)

    assert fresh(claim.jobs) == ["b"]


# --- renew


async def test_a_renewal_moves_the_lease_and_the_place_in_the_queue(place: Place) -> None:
    [job] = await place.running("a")
    before = await place.now_ms()

    lost = await place.store.renew(QUEUE, [("a", job.fence)], HOUR_MS)

    assert lost == []
    assert LEASE_MS < await place.client.pttl(keys.in_progress("a")) <= HOUR_MS
    assert before + HOUR_MS <= cast(int, await place.due_ms("a")) <= await place.now_ms() + HOUR_MS
    assert await place.client.get(keys.in_progress("a")) == job.fence


async def test_a_renewal_with_a_stale_fence_is_lost_and_changes_nothing(place: Place) -> None:
    [old] = await place.running("a")
    await place.end_lease("a")
    await place.claim()
    before = await place.everything()

    lost = await place.store.renew(QUEUE, [("a", old.fence)], HOUR_MS)

    assert lost == ["a"]
    assert await place.everything() == before
    assert await place.client.pttl(keys.in_progress("a")) <= LEASE_MS


async def test_a_renewal_after_the_lease_has_ended_is_lost(place: Place) -> None:
    [job] = await place.running("a")
    await place.end_lease("a")

    lost = await place.store.renew(QUEUE, [("a", job.fence)], HOUR_MS)

    assert lost == ["a"]
    assert await place.client.exists(keys.in_progress("a")) == 0
    assert fresh((await place.claim()).jobs) == ["a"]


async def test_a_renewal_makes_the_place_again_that_was_deleted_under_a_running_job(
    place: Place,
) -> None:
    """Its worker's death, after that, was the job's end: nobody would have claimed it again."""
    [job] = await place.running("a")
    await place.client.delete(QUEUE)

    lost = await place.store.renew(QUEUE, [("a", job.fence)], LEASE_MS)

    assert lost == []
    assert await place.waiting() == ["a"]
    await place.end_lease("a")
    assert [(one.id, one.try_) for one in (await place.claim()).jobs] == [("a", 2)]


async def test_a_renewal_does_not_bring_back_a_job_that_was_settled(place: Place) -> None:
    [job] = await place.running("a")
    await place.settle([job])

    lost = await place.store.renew(QUEUE, [("a", job.fence)], HOUR_MS)

    assert lost == ["a"]
    assert await place.waiting() == []


async def test_of_many_renewals_only_the_lost_ones_are_named(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 100)]
    jobs = await place.running(*ids)
    for one in (ids[3], ids[-1]):
        await place.end_lease(one)

    lost = await place.store.renew(QUEUE, [(one.id, one.fence) for one in jobs], HOUR_MS)

    assert lost == [ids[3], ids[-1]]


def test_the_renewal_threads_arguments_are_those_of_the_script() -> None:
    assert renewal([("a", b"f1"), ("b", b"f2")], 500) == [500, b"a", b"f1", b"b", b"f2"]


# --- acknowledge


@pytest.mark.parametrize("kind", ["done", "failed", "cancelled"])
async def test_an_acknowledged_job_leaves_nothing_but_its_result(place: Place, kind: Kind) -> None:
    jobs = await place.running("a")

    fenced = await place.settle(jobs, kind, result=b"the result")

    assert fenced == []
    assert await place.client.get(keys.result("a")) == b"the result"
    assert await place.waiting() == []
    gone = (keys.job("a"), keys.in_progress("a"), keys.retry("a"))
    assert await place.client.exists(*gone) == 0
    assert await place.counters() == {"enqueued": 1, kind: 1}


async def test_a_result_is_kept_for_as_long_as_asked(place: Place) -> None:
    await place.settle(await place.running("a"), keep_ms=HOUR_MS)

    assert 0 < await place.client.pttl(keys.result("a")) <= HOUR_MS


async def test_a_result_may_be_kept_for_good(place: Place) -> None:
    await place.settle(await place.running("a"), keep_ms=-1)

    assert await place.client.pttl(keys.result("a")) == -1


async def test_a_result_that_is_not_to_be_kept_is_on_the_stream_alone(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), keep_ms=0, run="r", result=b"small")

    assert await place.client.exists(keys.result("a")) == 0
    assert await place.outcomes("r") == [b"small"]


async def test_a_settled_job_is_one_entry_on_its_runs_stream(place: Place) -> None:
    jobs = await place.running("a", "b", run="r")

    await place.settle(jobs[:1], run="r", result=b"one")
    await place.settle(jobs[1:], "failed", run="r", result=b"two")

    assert await place.outcomes("r") == [b"one", b"two"]
    assert await place.run_fields("r") == {"total": 2, "done": 1, "failed": 1}


async def test_a_shorter_entry_goes_on_the_stream_instead_of_the_result(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), run="r", result=b"long", entry=b"short")

    assert await place.outcomes("r") == [b"short"]
    assert await place.client.get(keys.result("a")) == b"long"


async def test_a_runs_counters_are_kept_apart_by_kind(place: Place) -> None:
    jobs = await place.running("a", "b", "c", "d", run="r")

    await place.store.acknowledge(
        QUEUE,
        [
            Settlement(one.id, one.fence, b"", HOUR_MS, kind, "work", "r")
            for one, kind in zip(jobs, ("done", "failed", "cancelled", "done"), strict=True)
        ],
    )

    assert await place.run_fields("r") == {"total": 4, "done": 2, "failed": 1, "cancelled": 1}
    assert await place.counters() == {"enqueued": 4, "done": 2, "failed": 1, "cancelled": 1}


async def test_one_call_settles_jobs_of_several_runs(place: Place) -> None:
    [a] = await place.running("a", run="r1")
    [b] = await place.running("b", run="r2")
    [c] = await place.running("c")

    await place.store.acknowledge(
        QUEUE,
        [
            Settlement(one.id, one.fence, one.id.encode(), HOUR_MS, "done", "work", run)
            for one, run in ((a, "r1"), (b, "r2"), (c, ""))
        ],
    )

    assert (await place.outcomes("r1"), await place.outcomes("r2")) == ([b"a"], [b"b"])
    assert await place.run_fields("r1") == await place.run_fields("r2") == {"total": 1, "done": 1}


async def test_a_run_expires_seven_days_after_its_last_outcome(place: Place) -> None:
    jobs = await place.running("a", run="r")
    await place.client.expire(keys.run("r"), 10)

    await place.settle(jobs, run="r")

    for key in (keys.run("r"), keys.run_outcomes("r")):
        assert RUN_TTL_SECONDS - 60 < await place.client.ttl(key) <= RUN_TTL_SECONDS


async def test_a_run_that_has_expired_is_not_made_again_by_a_late_result(place: Place) -> None:
    jobs = await place.running("a", run="r")
    await place.client.delete(keys.run("r"))

    fenced = await place.settle(jobs, run="r")

    assert fenced == []
    assert await place.client.exists(keys.run("r"), keys.run_outcomes("r")) == 0
    assert await place.client.get(keys.result("a")) == b"result"


async def test_a_failed_job_becomes_a_dead_letter_with_its_payload(place: Place) -> None:
    before = await place.now_ms()

    await place.settle(await place.running("a", run="r"), "failed", run="r", result=b"why")

    letter = await place.client.hgetall(keys.dead("a"))  # type: ignore[misc]
    died = int(letter.pop(b"died"))
    assert letter == {
        b"payload": b"payload of a",
        b"result": b"why",
        b"queue": QUEUE.encode(),
        b"function": b"work",
        b"run": b"r",
    }
    assert before <= died <= await place.now_ms()
    assert await place.client.zrange(keys.DEAD, 0, -1, withscores=True) == [(b"a", died)]
    assert await place.client.pttl(keys.dead("a")) == -1


@pytest.mark.parametrize("kind", ["done", "cancelled"])
async def test_only_a_failed_job_becomes_a_dead_letter(place: Place, kind: Kind) -> None:
    await place.settle(await place.running("a"), kind)

    assert await place.client.exists(keys.dead("a"), keys.DEAD) == 0


async def test_a_failed_job_whose_payload_expired_is_a_dead_letter_without_it(place: Place) -> None:
    jobs = await place.running("a")
    await place.client.delete(keys.job("a"))

    await place.settle(jobs, "failed")

    assert await place.client.hget(keys.dead("a"), "payload") == b""  # type: ignore[misc]


async def test_an_abort_is_over_when_its_job_has_settled(place: Place) -> None:
    jobs = await place.running("a", "b")
    await place.cancel("a", "b")

    await place.settle(jobs[:1], "cancelled")

    assert await place.client.zrange(keys.ABORTS, 0, -1) == [b"b"]


async def test_a_paused_worker_cannot_overwrite_a_result(place: Place) -> None:
    old = await place.running("a", run="r")
    await place.end_lease("a")
    await place.settle((await place.claim()).jobs, run="r", result=b"the second's")
    before = await place.everything()

    fenced = await place.settle(old, "failed", run="r", result=b"the first's")

    assert fenced == ["a"]
    assert await place.everything() == before
    assert await place.counters() == {"enqueued": 1, "done": 1, "fenced": 1}


async def test_a_paused_worker_cannot_settle_a_job_that_another_one_runs(place: Place) -> None:
    old = await place.running("a", run="r")
    await place.end_lease("a")
    await place.claim()
    before = await place.everything()

    fenced = await place.settle(old, run="r")

    assert fenced == ["a"]
    assert await place.everything() == before


async def test_a_lease_that_has_ended_settles_nothing_though_nobody_else_came(place: Place) -> None:
    jobs = await place.running("a", run="r")
    await place.end_lease("a")
    before = await place.everything()

    fenced = await place.settle(jobs, run="r")

    assert fenced == ["a"]
    assert await place.everything() == before


async def test_a_job_that_a_stock_arq_worker_runs_cannot_be_settled_by_us(place: Place) -> None:
    await place.enqueue("a")
    await place.client.set(keys.in_progress("a"), b"1")

    fenced = await place.store.acknowledge(
        QUEUE, [Settlement("a", b"fence", b"", HOUR_MS, "done", "work")]
    )

    assert fenced == ["a"]
    assert await place.waiting() == ["a"]


async def test_acknowledging_again_after_a_lost_reply_records_nothing_twice(place: Place) -> None:
    jobs = await place.running("a", run="r")
    await place.settle(jobs, run="r")
    before = await place.everything()

    fenced = await place.settle(jobs, run="r")

    assert fenced == ["a"]
    assert await place.everything() == before


async def test_the_same_job_twice_in_one_acknowledgement_is_recorded_once(place: Place) -> None:
    [job] = await place.running("a", run="r")

    fenced = await place.settle([job, job], run="r")

    assert fenced == ["a"]
    assert await place.run_fields("r") == {"total": 1, "done": 1}
    assert len(await place.outcomes("r")) == 1


async def test_outcomes_beyond_one_batch_are_all_recorded(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 250)]
    jobs = await place.running(*ids, run="r")

    fenced = await place.settle(jobs, run="r")

    assert fenced == []
    assert await place.run_fields("r") == {"total": 750, "done": 750}
    assert len(await place.outcomes("r")) == 750
    assert await place.waiting() == []


async def test_fenced_outcomes_of_every_batch_are_named(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 250)]
    jobs = await place.running(*ids)
    lost = [ids[0], ids[-1]]
    for one in lost:
        await place.end_lease(one)

    fenced = await place.settle(jobs)

    assert fenced == lost
    assert sorted(await place.waiting()) == lost


# --- retry


async def test_a_retried_job_is_due_after_its_delay_with_its_tries_counted(place: Place) -> None:
    [job] = await place.running("a")
    before = await place.now_ms()

    fenced = await place.store.retry(QUEUE, [("a", job.fence, HOUR_MS)])

    assert fenced == []
    assert before + HOUR_MS <= cast(int, await place.due_ms("a")) <= await place.now_ms() + HOUR_MS
    assert await place.client.exists(keys.in_progress("a")) == 0
    assert await place.counters() == {"enqueued": 1, "retried": 1}
    await place.make_due("a")
    assert [(one.try_, one.payload) for one in (await place.claim()).jobs] == [(2, b"payload of a")]


async def test_a_retried_job_whose_abort_was_asked_for_is_due_at_once(place: Place) -> None:
    [job] = await place.running("a")
    await place.cancel("a")

    await place.store.retry(QUEUE, [("a", job.fence, HOUR_MS)])

    assert [(one.id, one.abort) for one in (await place.claim()).jobs] == [("a", True)]


async def test_a_retry_with_a_stale_fence_changes_nothing(place: Place) -> None:
    [old] = await place.running("a")
    await place.end_lease("a")
    await place.claim()
    before = await place.everything()

    fenced = await place.store.retry(QUEUE, [("a", old.fence, 0)])

    assert fenced == ["a"]
    assert await place.everything() == before
    assert await place.counters() == {"enqueued": 1, "fenced": 1}


async def test_a_retried_job_cannot_be_settled_by_the_attempt_that_gave_it_back(
    place: Place,
) -> None:
    jobs = await place.running("a")
    await place.store.retry(QUEUE, [("a", jobs[0].fence, 0)])

    fenced = await place.settle(jobs)

    assert fenced == ["a"]
    assert await place.waiting() == ["a"]


async def test_retries_beyond_one_batch_are_all_given_back(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 50)]
    jobs = await place.running(*ids)

    fenced = await place.store.retry(QUEUE, [(one.id, one.fence, 0) for one in jobs])

    assert fenced == []
    assert len((await place.claim(1_000)).jobs) == len(ids)


async def test_a_retry_wakes_the_workers(place: Place) -> None:
    [job] = await place.running("a")

    async with place.listening() as heard:
        await place.store.retry(QUEUE, [("a", job.fence, 0)])
        await place.store.retry(QUEUE, [("a", job.fence, 0)])

    assert heard == [(keys.wake(QUEUE), b"work")]


# --- release


async def test_a_released_job_is_as_if_never_claimed(place: Place) -> None:
    await place.enqueue("a")
    before = await place.everything()
    [job] = (await place.claim()).jobs

    fenced = await place.store.release(QUEUE, [("a", job.fence, job.due_ms)])

    assert fenced == []
    assert await place.everything() == before
    assert await place.counters() == {"enqueued": 1, "released": 1}


async def test_a_release_gives_back_one_try_of_several(place: Place) -> None:
    await place.running("a")
    await place.end_lease("a")
    [job] = (await place.claim()).jobs
    assert job.try_ == 2

    await place.store.release(QUEUE, [("a", job.fence, job.due_ms)])

    assert [one.try_ for one in (await place.claim()).jobs] == [2]


async def test_a_released_job_is_ahead_of_the_ones_that_came_later(place: Place) -> None:
    await place.enqueue("z")
    await place.make_due("z", ago_ms=1_000)
    [job] = (await place.claim()).jobs
    await place.enqueue("a")

    await place.store.release(QUEUE, [("z", job.fence, job.due_ms)])

    assert fresh((await place.claim()).jobs) == ["z", "a"]


async def test_a_release_with_a_stale_fence_changes_nothing(place: Place) -> None:
    [old] = await place.running("a")
    await place.end_lease("a")
    await place.claim()
    before = await place.everything()

    fenced = await place.store.release(QUEUE, [("a", old.fence, old.due_ms)])

    assert fenced == ["a"]
    assert await place.everything() == before
    assert await place.counters() == {"enqueued": 1, "fenced": 1}


async def test_a_release_wakes_the_workers(place: Place) -> None:
    [job] = await place.running("a")

    async with place.listening() as heard:
        await place.store.release(QUEUE, [("a", job.fence, job.due_ms)])
        await place.store.release(QUEUE, [("a", job.fence, job.due_ms)])

    assert heard == [(keys.wake(QUEUE), b"work")]


async def test_releases_beyond_one_batch_are_all_given_back(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 50)]
    jobs = await place.running(*ids)

    fenced = await place.store.release(QUEUE, [(one.id, one.fence, one.due_ms) for one in jobs])

    assert fenced == []
    assert len((await place.claim(1_000)).jobs) == len(ids)


# --- cancel


async def test_a_waiting_job_is_cancelled_at_once(place: Place) -> None:
    await place.enqueue("a", run="r")

    answer = await place.cancel("a", run="r")

    assert answer == (1, 0)
    assert await place.waiting() == []
    assert await place.client.get(keys.result("a")) == b"cancelled"
    assert 0 < await place.client.pttl(keys.result("a")) <= CANCELLED_KEEP_MS
    assert await place.client.exists(keys.job("a")) == 0
    assert await place.outcomes("r") == [b"cancelled"]
    assert await place.run_fields("r") == {"total": 1, "cancelled": 1}
    assert await place.counters() == {"enqueued": 1, "cancelled": 1}


async def test_a_delayed_job_is_cancelled_at_once(place: Place) -> None:
    await place.enqueue("a", delay_ms=HOUR_MS)

    answer = await place.cancel("a")

    assert answer == (1, 0)
    assert await place.waiting() == []


async def test_a_running_job_is_put_to_its_worker(place: Place) -> None:
    [job] = await place.running("a", run="r")

    answer = await place.cancel("a", run="r")

    assert answer == (0, 1)
    assert await place.client.zrange(keys.ABORTS, 0, -1) == [b"a"]
    assert await place.client.get(keys.in_progress("a")) == job.fence
    assert await place.client.exists(keys.result("a")) == 0
    assert await place.outcomes("r") == []


async def test_a_job_of_a_dead_worker_is_cancelled_at_once(place: Place) -> None:
    jobs = await place.running("a")
    await place.cancel("a")
    await place.end_lease("a")

    answer = await place.cancel("a")

    assert answer == (1, 0)
    assert await place.client.exists(keys.ABORTS, keys.retry("a")) == 0
    assert await place.settle(jobs) == ["a"]
    assert await place.client.get(keys.result("a")) == b"cancelled"


async def test_an_unknown_job_is_passed_over(place: Place) -> None:
    answer = await place.cancel("a", run="r")

    assert answer == (0, 0)
    assert await place.everything() == {}


async def test_a_finished_job_is_passed_over(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), run="r")
    before = await place.everything()

    answer = await place.cancel("a", run="r")

    assert answer == (0, 0)
    assert await place.everything() == before


async def test_the_same_job_twice_in_one_cancellation_is_settled_once(place: Place) -> None:
    await place.enqueue("a", run="r")

    answer = await place.cancel("a", "a", run="r")

    assert answer == (1, 0)
    assert await place.run_fields("r") == {"total": 1, "cancelled": 1}


async def test_a_cancelled_job_of_an_expired_run_does_not_make_the_run_again(place: Place) -> None:
    await place.enqueue("a", run="r")
    await place.client.delete(keys.run("r"))

    answer = await place.cancel("a", run="r")

    assert answer == (1, 0)
    assert await place.client.exists(keys.run("r"), keys.run_outcomes("r")) == 0


async def test_a_run_expires_seven_days_after_its_last_cancellation(place: Place) -> None:
    await place.enqueue("a", run="r")
    await place.client.expire(keys.run("r"), 10)

    await place.cancel("a", run="r")

    for key in (keys.run("r"), keys.run_outcomes("r")):
        assert RUN_TTL_SECONDS - 60 < await place.client.ttl(key) <= RUN_TTL_SECONDS


async def test_cancellations_beyond_one_batch_are_added_up(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 50)]
    await place.enqueue(*ids)
    await place.claim(20)

    answer = await place.cancel(*ids)

    assert answer == (530, 20)


async def test_only_a_running_job_wakes_workers_for_its_abort(place: Place) -> None:
    await place.running("a")
    await place.enqueue("b")

    async with place.listening() as heard:
        await place.cancel("b")
        await place.cancel("a")

    assert heard == [(keys.wake(QUEUE), b"abort")]


# --- revive


async def test_a_revived_job_waits_again_with_fresh_tries(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), "failed", run="r")

    refused = await place.store.revive(["a"])

    assert refused == []
    [job] = (await place.claim()).jobs
    assert (job.payload, job.try_) == (b"payload of a", 1)
    gone = (keys.result("a"), keys.dead("a"), keys.DEAD)
    assert await place.client.exists(*gone) == 0
    assert await place.client.pttl(keys.job("a")) == -1
    assert (await place.counters())["revived"] == 1


async def test_the_run_of_a_revived_job_waits_for_it_again(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), "failed", run="r")

    await place.store.revive(["a"])

    assert await place.run_fields("r") == {"total": 1, "failed": 0}


async def test_a_revived_job_that_succeeds_is_a_second_entry_on_its_runs_stream(
    place: Place,
) -> None:
    await place.settle(await place.running("a", run="r"), "failed", run="r", result=b"failed")
    await place.store.revive(["a"])

    await place.settle((await place.claim()).jobs, run="r", result=b"done")

    assert await place.outcomes("r") == [b"failed", b"done"]
    assert await place.run_fields("r") == {"total": 1, "failed": 0, "done": 1}


async def test_a_job_is_revived_into_the_queue_that_it_came_from(place: Place) -> None:
    await place.store.enqueue_many(keys.CPU_QUEUE, [NewJob("a", b"")])
    await place.store.enqueue_many(keys.CPU_QUEUE, [NewJob("b", b"payload")])
    claim = await place.store.claim(keys.CPU_QUEUE, "f", 10, LEASE_MS)
    await place.store.acknowledge(
        keys.CPU_QUEUE,
        [Settlement(one.id, one.fence, b"", HOUR_MS, "failed", "work") for one in claim.jobs],
    )

    async with place.listening(QUEUE, keys.CPU_QUEUE) as heard:
        await place.store.revive(["b"])

    assert heard == [(keys.wake(keys.CPU_QUEUE), b"work")]
    again = await place.store.claim(keys.CPU_QUEUE, "g", 10, LEASE_MS)
    assert fresh(again.jobs) == ["b"]
    assert await place.waiting() == []


async def test_an_id_that_has_no_dead_letter_is_refused(place: Place) -> None:
    await place.settle(await place.running("a"))
    before = await place.everything()

    refused = await place.store.revive(["a", "unknown"])

    assert refused == ["a", "unknown"]
    assert await place.everything() == before


async def test_a_dead_letter_without_a_payload_is_refused_and_kept(place: Place) -> None:
    jobs = await place.running("a")
    await place.client.delete(keys.job("a"))
    await place.settle(jobs, "failed")
    before = await place.everything()

    refused = await place.store.revive(["a"])

    assert refused == ["a"]
    assert await place.everything() == before


async def test_a_dead_letter_whose_id_waits_again_is_refused_and_kept(place: Place) -> None:
    await place.settle(await place.running("a"), "failed", keep_ms=0)
    await place.enqueue("a")
    before = await place.everything()

    refused = await place.store.revive(["a"])

    assert refused == ["a"]
    assert await place.everything() == before


async def test_reviving_again_after_a_lost_reply_changes_nothing(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), "failed", run="r")
    await place.store.revive(["a"])
    before = await place.everything()

    refused = await place.store.revive(["a"])

    assert refused == ["a"]
    assert await place.everything() == before


async def test_a_job_of_an_expired_run_is_revived_without_it(place: Place) -> None:
    await place.settle(await place.running("a", run="r"), "failed", run="r")
    await place.client.delete(keys.run("r"))

    refused = await place.store.revive(["a"])

    assert refused == []
    assert await place.client.exists(keys.run("r")) == 0


async def test_dead_letters_beyond_one_batch_are_all_revived(place: Place) -> None:
    ids = [f"j{n:04d}" for n in range(SETTLE_BATCH + 50)]
    await place.settle(await place.running(*ids), "failed")

    refused = await place.store.revive(ids)

    assert refused == []
    assert sorted(await place.waiting()) == ids


# --- the calls themselves


async def test_nothing_to_do_makes_no_call() -> None:
    store = Store(cast(Redis, None))  # any call would fail

    assert await store.enqueue_many(QUEUE, []) == []
    assert await store.acknowledge(QUEUE, []) == []
    assert await store.renew(QUEUE, [], LEASE_MS) == []
    assert await store.retry(QUEUE, []) == []
    assert await store.release(QUEUE, []) == []
    assert await store.cancel(QUEUE, []) == (0, 0)
    assert await store.revive([]) == []


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(place: Place) -> None:
    await place.enqueue("a", "b", "c", "d", run="r")
    await place.client.script_flush()
    jobs = (await place.claim(3)).jobs
    await place.client.script_flush()
    lost = await place.store.renew(QUEUE, [(one.id, one.fence) for one in jobs], LEASE_MS)
    await place.client.script_flush()
    fenced = await place.settle(jobs[:1], "failed", run="r")
    await place.client.script_flush()
    fenced += await place.store.retry(QUEUE, [("b", jobs[1].fence, 0)])
    await place.client.script_flush()
    fenced += await place.store.release(QUEUE, [("c", jobs[2].fence, jobs[2].due_ms)])
    await place.client.script_flush()
    refused = await place.store.revive(["a"])
    await place.client.script_flush()
    cancelled = await place.cancel("d", run="r")
    await place.client.script_flush()
    refused += await place.enqueue("e", run="r")

    assert (lost, fenced, refused, cancelled) == ([], [], [], (1, 0))
    assert sorted(await place.waiting()) == ["a", "b", "c", "e"]


async def test_a_known_script_is_sent_by_its_digest_alone(place: Place) -> None:
    await place.enqueue("a")
    await place.enqueue("b")

    assert [len(call[0]) for call in place.calls.made] == [40, 40]
    assert await place.client.script_exists(place.calls.made[0][0]) == [1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_batches_hold_every_item_once_in_order(count: int) -> None:
    made = list(batches(iter(range(count)), 3))

    assert [item for batch in made for item in batch] == list(range(count))
    assert all(1 <= len(batch) <= 3 for batch in made)
    assert all(len(batch) == 3 for batch in made[:-1])


def test_batches_are_small_enough_for_the_servers_stack() -> None:
    # Lua's unpack takes at most about 8,000 values; enqueue and claim unpack two a job.
    assert 2 * max(ENQUEUE_BATCH, MAX_CLAIM, SETTLE_BATCH) < 7_000


# --- next to stock arq


async def test_arqs_client_sees_our_jobs_as_its_own(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool)
    theirs = ArqJob("a", arq, _deserializer=wire.loads)
    payload = {"t": None, "f": "work", "a": [1], "k": {}, "et": 0}
    result = payload | {"t": 1, "s": True, "r": 42, "st": 0, "ft": 1, "q": QUEUE, "id": "a"}
    seen = [await theirs.status()]

    await place.store.enqueue_many(QUEUE, [NewJob("a", wire.dumps(payload), delay_ms=HOUR_MS)])
    seen.append(await theirs.status())
    await place.make_due("a")
    seen.append(await theirs.status())
    jobs = (await place.claim()).jobs
    seen.append(await theirs.status())
    await place.settle(jobs, result=wire.dumps(result))
    seen.append(await theirs.status())

    assert seen == [
        JobStatus.not_found,
        JobStatus.deferred,
        JobStatus.queued,
        JobStatus.in_progress,
        JobStatus.complete,
    ]
    assert await theirs.result(timeout=5) == 42


async def test_a_job_from_arqs_client_is_claimed(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool, job_serializer=wire.dumps)
    await arq.enqueue_job("work", 1, key="value", _job_id="a")
    await place.make_due("a")  # arq dates a job by its client's clock, rounded up

    [job] = (await place.claim()).jobs

    payload = wire.load_payload(cast(bytes, job.payload))
    assert (job.id, payload.function) == ("a", "work")
    assert (wire.loads(bytes(payload.args)), wire.loads(bytes(payload.kwargs))) == (
        [1],
        {"key": "value"},
    )


async def test_arqs_client_refuses_an_id_that_we_enqueued(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool, job_serializer=wire.dumps)
    await place.enqueue("a")

    assert await arq.enqueue_job("work", _job_id="a") is None


async def test_an_abort_from_arqs_client_reaches_the_claim(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool, job_serializer=wire.dumps)
    theirs = await arq.enqueue_job("work", _job_id="a", _defer_by=HOUR_MS // 1000)
    with pytest.raises(asyncio.TimeoutError):
        await ArqJob(theirs.job_id, arq, _deserializer=wire.loads).abort(timeout=0)

    claim = await place.claim()

    assert [one.abort for one in claim.jobs] == [True]


# --- a full server


@pytest.fixture
async def full(valkey_place: Place) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Fills the server: from then on it takes nothing that needs memory."""
    client = valkey_place.client

    async def fill() -> None:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used - 1)

    yield fill
    await client.config_set("maxmemory", 0)


async def test_a_full_server_takes_no_new_jobs(
    valkey_place: Place, full: Callable[[], Awaitable[None]]
) -> None:
    await full()

    with pytest.raises(OutOfMemoryError):
        await valkey_place.enqueue("a")

    assert await valkey_place.waiting() == []


async def test_on_a_full_server_what_waits_and_runs_comes_to_its_end(
    valkey_place: Place, full: Callable[[], Awaitable[None]]
) -> None:
    # Nothing could be recorded, and so no memory was ever given back.
    place = valkey_place
    running = {one: (await place.running(one))[0] for one in "abcd"}
    await place.enqueue("e")
    await full()

    (waiting,) = (await place.claim()).jobs
    assert waiting.id == "e"
    assert await place.store.renew(QUEUE, [("a", running["a"].fence)], HOUR_MS) == []
    assert await place.settle([running["a"]]) == []
    assert await place.settle([running["a"]]) == ["a"]  # a refusal alone is counted as well
    assert await place.settle([running["b"]], kind="failed") == []
    assert await place.store.retry(QUEUE, [("c", running["c"].fence, 0)]) == []
    assert await place.store.release(QUEUE, [("d", running["d"].fence, 0)]) == []
    assert await place.store.cancel(QUEUE, [Cancellation("e", b"cancelled")]) == (0, 1)
    assert await place.store.cancel(QUEUE, [Cancellation("c", b"cancelled")]) == (1, 0)
