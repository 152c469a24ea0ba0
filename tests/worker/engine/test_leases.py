"""Attempts that lost their lease: they change nothing any more."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.engine.conftest import Host
from tests.worker.engine.jobs import REGISTRY
from tests.worker.hosting import SHORT_LEASE_MS, enqueue, outcomes, recorded
from twolane import keys, outcome, runs
from twolane.outcome import Outcome
from twolane.store import Settlement, Store


async def test_a_late_outcome_is_refused_and_counted(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    store = Store(client)
    async with host(watched=False, lease_ms=SHORT_LEASE_MS) as worker:
        await worker.wait_started()

        async def others() -> Any:
            return (await store.claim(keys.IO_QUEUE, "io-other:1", 1, 60_000)).jobs

        worker.engine.drain()  # it would claim the job again itself
        (job_,) = await wait_until(others, "the lease to end")
        theirs = Settlement(
            job_.id, job_.fence, _record(job_.id, run, "theirs"), 60_000, "done", "wait_for_go", run
        )
        worker.go.set()
        await wait_until(lambda: worker.beat.fenced == 1, "a fenced outcome")

        assert not await client.exists(keys.result(job_.id))
        assert await client.get(keys.in_progress(job_.id)) == b"io-other:1"
        assert await store.acknowledge(keys.IO_QUEUE, [theirs]) == []

    (one,) = await outcomes(client, run)
    assert one.result == "theirs"
    assert await recorded(client, run) == [job_.id]
    assert await client.hget(keys.counters(keys.IO_QUEUE), "fenced") == b"1"


def _record(job_id: str, run: str, result: str) -> bytes:
    whole, _ = outcome.encode(
        Outcome(
            try_=2, function="wait_for_go", args=[], kwargs={}, enqueued_ms=0, success=True,
            result=result, started_ms=0, finished_ms=0, queue=keys.IO_QUEUE, id=job_id, run=run,
        )
    )  # fmt: skip
    return whole


async def test_a_job_whose_lease_was_lost_is_stopped(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "note_cancellation")
    job_id = runs.job_id(run, 0)
    async with host(lease_ms=2_000) as worker:
        await worker.wait_started()

        await client.set(keys.in_progress(job_id), "io-other:1", px=60_000)
        await wait_until(lambda: "cancelled" in worker.started, "the job to be stopped")

        await wait_until(lambda: not worker.engine.running, "its slot to be free")
        assert worker.beat.fenced == 1
    assert not await client.exists(keys.result(job_id))
    assert await client.get(keys.in_progress(job_id)) == b"io-other:1"


async def test_a_worker_that_claims_its_own_lost_job_again_settles_it_once(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    async with host(watched=False, lease_ms=SHORT_LEASE_MS) as worker:
        await worker.wait_started(2)  # its lease ended, and it claimed the job again
        worker.engine.lease_ms = 60_000
        worker.go.set()
        (one,) = await outcomes(client, run)

    assert one.try_ in (2, 3)
    assert await recorded(client, run) == [one.id]
