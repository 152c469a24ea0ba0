"""Shared keys that some client has made to be of another type: what goes on all the same."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from tests.twolane.store.place import LEASE_MS, QUEUE, Place, fresh
from twolane import keys
from twolane.store import NewJob

BOOKS = [keys.ABORTS, keys.counters(QUEUE), keys.DEAD]


async def spoil(place: Place, key: str) -> None:
    await place.client.delete(key)
    await place.client.rpush(key, "no", "such", "thing")


@pytest.mark.parametrize("key", BOOKS)
async def test_jobs_are_claimed_and_recorded_whatever_the_books_are(place: Place, key: str) -> None:
    """With arq:abort of another type every claim failed, and took its jobs' leases all the same."""
    await place.client.hset(keys.run("r"), "kind", "test")
    await place.enqueue("a", "b", run="r")
    await spoil(place, key)

    good, bad = (await place.claim()).jobs
    assert (good.abort, bad.abort) == (False, False)
    fenced = await place.settle([good], run="r")
    fenced += await place.settle([bad], "failed", run="r")

    assert fenced == []
    assert len(await place.outcomes("r")) == 2
    assert await place.client.exists(keys.result("a"), keys.result("b")) == 2
    assert await place.client.exists(keys.job("a"), keys.job("b")) == 0
    assert await place.client.exists(keys.in_progress("a"), keys.in_progress("b")) == 0
    assert await place.waiting() == []


@pytest.mark.parametrize("key", BOOKS)
async def test_jobs_are_given_back_whatever_the_books_are(place: Place, key: str) -> None:
    first, second = await place.running("a", "b")
    await spoil(place, key)

    assert await place.store.retry(QUEUE, [(first.id, first.fence, 0)]) == []
    assert await place.store.release(QUEUE, [(second.id, second.fence, 1)]) == []
    assert await place.store.release(QUEUE, [("c", b"nobody's", 1)]) == ["c"]

    assert sorted(fresh((await place.claim()).jobs)) == ["a", "b"]


@pytest.mark.parametrize("key", BOOKS)
async def test_a_waiting_job_is_cancelled_whatever_the_books_are(place: Place, key: str) -> None:
    await place.enqueue("a", "b")
    await spoil(place, key)

    assert await place.cancel("a", "b") == (2, 0)


@pytest.mark.parametrize("key", [*BOOKS, keys.RUNS])
async def test_jobs_are_enqueued_whatever_the_books_are(place: Place, key: str) -> None:
    await spoil(place, key)

    opened = await place.store.enqueue_run(
        "r", "test", {QUEUE: [NewJob("a", b""), NewJob("b", b"")]}
    )

    assert opened is not None
    assert opened.accepted == 2
    assert (await place.client.hmget(keys.run("r"), "total", "sealed")) == [b"2", b"1"]
    assert await place.waiting() == ["a", "b"]


async def test_what_a_queue_that_is_no_queue_does_not_take_leaves_nothing_behind(
    place: Place,
) -> None:
    """Their payloads stayed, and their ids were known ever after."""
    await spoil(place, QUEUE)
    before = await place.client.keys("*")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await place.enqueue("a")

    assert await place.client.keys("*") == before
    await place.client.delete(QUEUE)
    assert await place.enqueue("a") == []


async def test_a_run_whose_stream_is_no_stream_keeps_no_other_run_from_its_outcomes(
    place: Place,
) -> None:
    for run in "rs":
        await place.client.hset(keys.run(run), "kind", "test")
    await spoil(place, keys.run_outcomes("r"))
    jobs = await place.running("a", "b")
    settled = []
    for one, run in zip(jobs, "rs", strict=True):
        settled += await place.settle([one], run=run)

    assert settled == []
    assert len(await place.outcomes("s")) == 1
    assert await place.client.exists(keys.result("a"), keys.result("b")) == 2


async def test_a_lease_that_is_no_lease_is_lost_and_keeps_no_other_from_being_renewed(
    place: Place,
) -> None:
    """All leases of the worker ended for it."""
    jobs = await place.running("a", "b", "c")
    await spoil(place, keys.in_progress("a"))

    lost = await place.store.renew(QUEUE, [(one.id, one.fence) for one in jobs], 10 * LEASE_MS)

    assert lost == ["a"]
    assert await place.client.pttl(keys.in_progress("b")) > LEASE_MS
    assert await place.store.release(QUEUE, [(one.id, one.fence, 1) for one in jobs]) == ["a"]
    assert await place.waiting() == ["b", "c", "a"]


async def test_what_runs_outlives_a_queue_that_is_no_queue(place: Place) -> None:
    await place.client.hset(keys.run("r"), "kind", "test")
    first, *others = await place.running("a", "b", "c", "d", run="r")
    second, third, fourth = others
    await spoil(place, QUEUE)

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await place.claim()
    held = [(one.id, one.fence) for one in others]
    assert await place.store.renew(QUEUE, held, 10 * LEASE_MS) == []
    assert await place.settle([first], run="r") == []
    before = await place.client.get(keys.retry("b"))
    for give_back in (place.store.retry, place.store.release):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await give_back(QUEUE, [(second.id, second.fence, 1)])

    # Nothing was changed by what was refused: it is told again when the key is deleted.
    assert await place.client.get(keys.retry("b")) == before
    assert await place.client.pttl(keys.in_progress("b")) > LEASE_MS
    assert len(await place.outcomes("r")) == 1
    await place.client.delete(QUEUE)
    assert await place.store.release(QUEUE, [(second.id, second.fence, 1)]) == []
    assert await place.store.renew(QUEUE, held[1:], LEASE_MS) == []
    assert sorted(await place.waiting()) == ["b", "c", "d"]
    assert await place.settle([third, fourth], run="r") == []
