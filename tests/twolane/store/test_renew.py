"""Renewals: leases that are extended, and those that are lost."""

from __future__ import annotations

from typing import cast

from tests.twolane.store.place import HOUR_MS, LEASE_MS, QUEUE, Place, fresh
from twolane import keys
from twolane.store import (
    SETTLE_BATCH,
    renewal,
)


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
