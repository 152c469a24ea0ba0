"""Dead letters that are put back into their queues."""

from __future__ import annotations

from tests.twolane.store.place import HOUR_MS, LEASE_MS, QUEUE, Place, fresh
from twolane import keys
from twolane.store import (
    SETTLE_BATCH,
    NewJob,
    Settlement,
)


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
