"""Enqueueing: what is put into a queue, what is refused, and what is counted."""

from __future__ import annotations

import asyncio
from typing import cast

from tests.twolane.store.place import HOUR_MS, QUEUE, Place, fresh
from twolane import keys
from twolane.broker import connect
from twolane.store import (
    RUN_TTL_SECONDS,
    NewJob,
)


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


async def test_a_waiting_job_whose_place_was_deleted_gets_it_again_when_it_is_enqueued_again(
    place: Place,
) -> None:
    """Its payload kept its id for good: it never ran, and was refused as known."""
    await place.enqueue("a", "b", run="r")
    await place.client.delete(QUEUE)

    async with place.listening() as heard:
        refused = await place.store.enqueue_many(
            QUEUE, [NewJob("a", b"another payload"), NewJob("c", b"payload of c")], "r"
        )

    assert refused == ["a"]
    assert heard == [(keys.wake(QUEUE), b"work")]
    assert sorted(await place.waiting()) == ["a", "c"]
    assert [one.payload for one in (await place.claim()).jobs] == [b"payload of a", b"payload of c"]
    assert await place.run_fields("r") == {"total": 3}
    assert await place.counters() == {"enqueued": 3}


async def test_a_place_is_made_again_for_when_the_job_is_wanted(place: Place) -> None:
    await place.enqueue("a")
    await place.client.delete(QUEUE)

    await place.enqueue("a", delay_ms=HOUR_MS)

    assert (await place.claim()).jobs == []
    assert await place.waiting() == ["a"]


async def test_a_place_that_was_deleted_under_a_running_job_is_left_to_its_renewal(
    place: Place,
) -> None:
    await place.running("a")
    await place.client.delete(QUEUE)

    assert await place.enqueue("a") == ["a"]

    assert await place.waiting() == []


async def test_a_job_of_the_other_lane_gets_no_second_place(place: Place) -> None:
    await place.store.enqueue_many(keys.CPU_QUEUE, [NewJob("a", b"payload")])
    before = await place.everything()

    refused = await place.enqueue("a")
    refused += await place.store.enqueue_many(keys.CPU_QUEUE, [NewJob("a", b"payload")])

    assert refused == ["a", "a"]
    assert await place.everything() == before


async def test_a_job_of_an_arq_applications_own_queue_gets_no_second_place(place: Place) -> None:
    """Its payload expires, as all that arq's clients enqueue does."""
    await place.client.set(keys.job("a"), b"payload", px=HOUR_MS)
    await place.client.zadd("arq:queue:their-own", {"a": 1})

    assert await place.enqueue("a") == ["a"]

    assert await place.waiting() == []


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
