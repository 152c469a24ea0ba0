"""Cancellations: settled at once where a job waits, put to its worker where it runs."""

from __future__ import annotations

from tests.twolane.store.place import HOUR_MS, QUEUE, Place
from twolane import keys
from twolane.store import (
    CANCELLED_KEEP_MS,
    RUN_TTL_SECONDS,
    SETTLE_BATCH,
)


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
