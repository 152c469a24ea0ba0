"""Attempts of ``worker.arq.Worker`` and their leases: kept, lost, and given back."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import arq
import arq.worker
import pytest
import redis.asyncio as aio
from arq.connections import ArqRedis
from arq.jobs import Job
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.arq.conftest import POLL, Make, answer, enqueued
from twolane import address, keys
from twolane.store import Claim, Store
from worker.arq import runner


async def wait_long(ctx: dict[str, Any]) -> None:
    ctx["began"].set()
    await asyncio.sleep(3600)


async def test_an_attempt_that_lost_its_lease_is_stopped_and_changes_nothing(
    client: Redis, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    began = asyncio.Event()
    worker = make(wait_long, ctx={"began": began}, lease=0.5)
    made = await enqueued(pool, "wait_long")
    running = asyncio.create_task(worker.async_run())
    await began.wait()

    await client.set(keys.in_progress(made.job_id), b"another's", px=60_000)

    async def stopped() -> bool:
        return not worker.tasks

    await wait_until(stopped, "the end of the attempt")
    assert "lost the lease of job" in caplog.text
    assert await client.get(keys.in_progress(made.job_id)) == b"another's"
    assert await client.zscore(keys.IO_QUEUE, made.job_id) is not None
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 0, 0)
    running.cancel()


async def test_the_outcome_of_an_attempt_that_lost_its_lease_unnoticed_is_refused(
    client: Redis, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def steal(ctx: dict[str, Any]) -> int:
        await client.set(keys.in_progress(ctx["job_id"]), b"another's", px=60_000)
        return 1

    after: list[str] = []

    async def after_job_end(ctx: dict[str, Any]) -> None:
        after.append(ctx["job_id"])

    made = await enqueued(pool, "steal")
    worker = make(arq.func(steal, name="steal"), after_job_end=after_job_end)
    running = asyncio.create_task(worker.async_run())

    async def refused() -> bool:
        return "1 outcomes refused" in caplog.text

    await wait_until(refused, "the refusal")
    assert await client.exists(keys.result(made.job_id)) == 0
    assert await client.exists(keys.job(made.job_id)) == 1
    assert after == []  # it says that a result is recorded
    running.cancel()


async def test_what_a_cancelled_claim_brought_is_given_back(
    client: Redis, pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()
    worker = make(answer)
    await enqueued(pool, "answer", _job_id="one")
    worker._pool = pool
    worker._open()
    store = worker._store
    assert store is not None
    claim = store.claim

    async def late(*arguments: Any) -> Any:
        claimed = await claim(*arguments)
        asked.set()
        await answered.wait()
        return claimed

    monkeypatch.setattr(store, "claim", late)
    polling = asyncio.create_task(worker._poll_iteration())
    await asked.wait()
    assert await client.exists(keys.in_progress("one")) == 1

    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    answered.set()

    async def given_back() -> bool:
        return not await client.exists(keys.in_progress("one"), keys.retry("one"))

    await wait_until(given_back, "the job's release")
    assert await Job("one", pool).status() is arq.jobs.JobStatus.queued


async def test_leases_are_renewed_by_the_loop_where_no_thread_can(
    broker: str, pool: ArqRedis, make: Make
) -> None:
    class Own(aio.UnixDomainSocketConnection):
        """A connection class of the application's own: a thread cannot have its like."""

    path = address.parse(broker).path
    own = ArqRedis(pool_or_conn=aio.ConnectionPool(connection_class=Own, path=path))
    went_on = asyncio.Event()

    async def outlive(ctx: dict[str, Any]) -> str:
        await went_on.wait()
        return "done"

    made = await enqueued(pool, "outlive")
    worker = make(arq.func(outlive, name="outlive"), redis_pool=own, lease=0.5)
    running = asyncio.create_task(worker.async_run())

    async def place() -> float:
        return await pool.zscore(keys.IO_QUEUE, made.job_id) or 0.0

    first = await place()

    async def renewed() -> bool:
        return await place() > first + 1_000

    await wait_until(renewed, "renewals by the loop")
    went_on.set()
    assert await made.result(timeout=5, poll_delay=POLL) == "done"
    running.cancel()


@pytest.mark.parametrize("renewer", ["thread", "loop"])
async def test_a_job_that_comes_late_in_its_lease_has_it_renewed_at_once(
    client: Redis, pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch, renewer: str
) -> None:
    """The next renewal was a quarter of the lease away: it had ended, and another worker ran it."""
    began, skipped, claim = asyncio.Event(), 0.0, Store.claim

    async def claim_late(*given: Any) -> Claim:
        # What nine tenths of the lease leave behind, without waiting for them.
        nonlocal skipped
        answer = await claim(*given)
        for one in answer.jobs:
            await client.pexpire(keys.in_progress(one.id), 4_000)
            await client.zadd(keys.IO_QUEUE, {one.id: answer.now_ms + 4_000})
            skipped = 36.0
        return answer

    monkeypatch.setattr(Store, "claim", claim_late)
    monkeypatch.setattr(runner, "monotonic", lambda: monotonic() + skipped)
    if renewer == "loop":
        monkeypatch.setattr(runner, "blocking_client", lambda *_: None)
    worker = make(wait_long, ctx={"began": began}, lease=40)
    made = await enqueued(pool, "wait_long")
    running = asyncio.create_task(worker.async_run())
    await began.wait()
    lease = keys.in_progress(made.job_id)
    fence = await client.get(lease)

    async def is_renewed() -> bool:
        left_ms = await client.pttl(lease)
        assert await client.get(lease) == fence, "its lease ended"
        return int(left_ms) > 4_000

    await wait_until(is_renewed, "the renewal of the lease")
    running.cancel()
