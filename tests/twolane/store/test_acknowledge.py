"""Acknowledgements: what is recorded of a job that ended, and when it is refused."""

from __future__ import annotations

import pytest

from tests.twolane.store.place import HOUR_MS, QUEUE, Place
from twolane import keys
from twolane.store import (
    RUN_TTL_SECONDS,
    SETTLE_BATCH,
    Kind,
    Settlement,
)


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

    letter = await place.client.hgetall(keys.dead("a"))
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

    assert await place.client.hget(keys.dead("a"), "payload") == b""


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
