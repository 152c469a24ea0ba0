"""The end of a worker: it claims nothing more, and hands back what does not end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.worker.engine.conftest import Host
from tests.worker.engine.jobs import REGISTRY
from tests.worker.engine.queued import leases, one_outcome
from tests.worker.hosting import enqueue, outcomes
from twolane import keys, runs


async def test_a_draining_worker_claims_nothing_more(client: Redis, host: Host) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go")
    async with host() as worker:
        await worker.wait_started()

        worker.engine.drain()
        assert worker.main is not None
        await asyncio.wait_for(worker.main, 5)
        late = await enqueue(client, REGISTRY, "wait_for_go")
        worker.go.set()
        (one,) = await outcomes(client, run)

    assert one.success
    assert len(worker.started) == 1
    assert (await runs.get(client, late)).settled == 0
    assert not await client.exists(keys.retry(runs.job_id(late, 0)))


async def test_jobs_that_arrive_with_the_drain_are_handed_back_unstarted(
    client: Redis, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The claim is on its way when the drain begins: its jobs must not start, nor cost a try.
    async with host() as worker:
        await one_outcome(client, "add", left=1, right=1)
        exchange = worker.engine.store.exchange

        async def claim_then_drain(*args: Any) -> Any:
            answer = await exchange(*args)
            if answer.claim and answer.claim.jobs:
                worker.engine.drain()
            return answer

        monkeypatch.setattr(worker.engine.store, "exchange", claim_then_drain)
        run = await enqueue(client, REGISTRY, "wait_for_go")
        assert worker.main is not None
        await asyncio.wait_for(worker.main, 10)
        await worker.engine.settle_all()

    assert worker.started == []
    assert not await client.exists(keys.retry(runs.job_id(run, 0)))


async def test_what_does_not_end_in_time_is_handed_back_without_using_up_a_try(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    due = await client.zrange(keys.IO_QUEUE, 0, -1, withscores=True)
    async with host() as worker:
        await worker.wait_started(3)

    assert await leases(client) == []
    assert await client.zrange(keys.IO_QUEUE, 0, -1, withscores=True) == due
    assert [key async for key in client.scan_iter(keys.RETRY_PREFIX + "*")] == []

    async with host() as other:
        other.go.set()
        assert [one.try_ for one in await outcomes(client, run)] == [1, 1, 1]
