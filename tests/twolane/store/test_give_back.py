"""Retries and releases: what becomes of a job that its worker gives back."""

from __future__ import annotations

from typing import cast

import pytest

from tests.twolane.store.place import HOUR_MS, QUEUE, Place, fresh
from twolane import keys
from twolane.store import (
    SETTLE_BATCH,
)


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


@pytest.mark.parametrize("tries", [b"inf", b"nan", b"1.5", b"1e300", b"-7", b"many"])
async def test_a_count_of_tries_that_is_none_begins_anew(place: Place, tries: bytes) -> None:
    # Such a job was never at its last chance, and could not be handed back.
    await place.enqueue("a")
    await place.client.set(keys.retry("a"), tries)

    [job] = (await place.claim()).jobs

    assert job.try_ in (1, 2)
    assert await place.store.release(QUEUE, [("a", job.fence, job.due_ms)]) == []
    assert (await place.claim()).jobs[0].try_ == job.try_


async def test_a_job_whose_count_of_tries_was_replaced_is_released_with_its_neighbours(
    place: Place,
) -> None:
    first, second = await place.running("a", "b")
    await place.client.delete(keys.retry("a"))
    await place.client.hset(keys.retry("a"), "no", "number")

    ended = await place.store.release(QUEUE, [(one.id, one.fence, 1) for one in (first, second)])

    assert ended == []
    assert [one.try_ for one in (await place.claim()).jobs] == [1, 1]
