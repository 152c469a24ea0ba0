"""What a worker claims, and when."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.engine.conftest import Host
from tests.worker.engine.jobs import FOREVER, REGISTRY
from tests.worker.engine.queued import leases, one_outcome, payload, run_outcomes
from tests.worker.hosting import SHORT_LEASE_MS, enqueue, outcomes
from twolane import keys, outcome, runs
from twolane.store import NewJob, Store


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

        assert [one.try_ for one in await run_outcomes(client, run)] == [2, 2, 2]
