"""Claims: which jobs are taken, in which order, and what comes with them."""

from __future__ import annotations

import asyncio

from tests.twolane.store.place import HOUR_MS, LEASE_MS, QUEUE, Place, fresh
from twolane import keys
from twolane.broker import connect
from twolane.messages import CALL_BYTES
from twolane.store import MAX_CLAIM, ClaimedJob, NewJob, Store


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


async def test_a_claim_takes_no_more_bytes_than_a_call_carries(place: Place) -> None:
    # Over a slow network the reply never came in time: jobs were claimed again and again, none ran.
    ids = ["a", "b", "c", "d"]
    await place.store.enqueue_many(QUEUE, [NewJob(one, b"x" * 6_000_000) for one in ids])
    due = {one: await place.due_ms(one) for one in ids}

    first = await place.claim()

    assert fresh(first.jobs) == ["a", "b"]
    assert first.next_due_ms == first.now_ms, "there is more, at once"
    assert [await place.due_ms(one) for one in "cd"] == [due["c"], due["d"]]
    assert await place.client.exists(*map(keys.in_progress, "cd"), *map(keys.retry, "cd")) == 0
    second = await place.claim()
    assert [(one.id, one.try_, one.due_ms) for one in second.jobs] == [
        ("c", 1, due["c"]), ("d", 1, due["d"]),
    ]  # fmt: skip
    assert second.next_due_ms == first.now_ms + LEASE_MS


async def test_a_payload_that_is_larger_than_a_call_is_claimed_alone(place: Place) -> None:
    await place.store.enqueue_many(QUEUE, [NewJob("a", b"x" * (CALL_BYTES + 1)), NewJob("b", b"")])

    assert fresh((await place.claim()).jobs) == ["a"]
    assert fresh((await place.claim()).jobs) == ["b"]


async def test_the_next_due_time_is_the_end_of_the_earliest_lease(place: Place) -> None:
    await place.enqueue("a")
    first = await place.claim(lease_ms=LEASE_MS)
    await place.enqueue("z", delay_ms=HOUR_MS)

    second = await place.claim()

    assert second.next_due_ms == first.now_ms + LEASE_MS


async def test_a_lease_that_ends_in_this_very_millisecond_is_asked_for_in_the_next(
    place: Place,
) -> None:
    # It lives to the end of it. Nobody asked for its job again until the next poll, 0.5 s later.
    ids = [str(number) for number in range(800)]
    await place.client.mset({keys.in_progress(one): "another's" for one in ids})
    began, claim = 0, None
    while claim is None or claim.now_ms >= began + len(ids):  # it took too long
        began = await place.now_ms()
        await place.client.zadd(QUEUE, {one: began + ms for ms, one in enumerate(ids)})
        claim = await place.claim()

    assert (claim.jobs, claim.next_due_ms) == ([], claim.now_ms)


async def test_a_due_job_that_a_stock_worker_holds_is_not_asked_for_at_once(place: Place) -> None:
    await place.client.set(keys.in_progress("a"), "a stock worker's")
    await place.client.zadd(QUEUE, {"a": await place.now_ms() - 1})

    assert (await place.claim()).next_due_ms is None


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
