"""Settings at their extremes, and a broker that is away when a cron job is due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import arq
import arq.worker
import pytest
from arq.connections import ArqRedis
from arq.cron import cron
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokerGone

from tests.worker.arq.conftest import POLL, Make, answer, enqueued
from twolane import keys


async def test_a_result_to_be_kept_for_less_than_a_millisecond_is_not_kept(
    client: Redis, pool: ArqRedis, make: Make
) -> None:
    made = await enqueued(pool, "answer")

    await make(answer, burst=True, keep_result=0.0001).async_run()

    assert await client.exists(keys.result(made.job_id), keys.IO_QUEUE) == 0


async def test_a_result_to_be_kept_for_longer_than_the_server_can_count_is_kept(
    pool: ArqRedis, make: Make
) -> None:
    # The server refused it again and again, and with it all that other jobs had to tell.
    made = [await enqueued(pool, name) for name in ("answer", "kept")]
    kept = arq.func(answer, name="kept", keep_result=1e17)
    worker = make(answer, kept, burst=True)

    await asyncio.wait_for(worker.async_run(), 10)

    assert [await one.result(timeout=1, poll_delay=POLL) for one in made] == [42, 42]


async def test_a_worker_of_very_many_slots_fills_them_all(pool: ArqRedis, make: Make) -> None:
    """One claim is for a thousand jobs at the most; the others waited for the next poll."""
    jobs, all_began = asyncio.Semaphore(1_100), asyncio.Event()

    async def together(ctx: dict[str, Any]) -> None:
        await jobs.acquire()
        if jobs.locked():
            all_began.set()
        await all_began.wait()

    for _ in range(1_100):
        await enqueued(pool, "together")
    function = arq.func(together, name="together")
    worker = make(function, burst=True, max_jobs=2_000, poll_delay=3600)

    async with asyncio.timeout(30):
        await worker.async_run()

    assert worker.jobs_complete == 1_100


async def test_a_cron_job_that_could_not_be_enqueued_is_enqueued_later(
    make: Make, pool: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(cron_jobs=[cron(answer, hour=1, run_at_startup=True)], redis_pool=pool)
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    sent = pool.enqueue_job

    async def away(*arguments: Any, **options: Any) -> None:
        raise BrokerGone("away")

    monkeypatch.setattr(pool, "enqueue_job", away)
    with pytest.raises(BrokerGone):
        await worker.run_cron(now, 0.5)

    monkeypatch.setattr(pool, "enqueue_job", sent)
    await worker.run_cron(now, 0.5)

    assert await pool.zcard(keys.IO_QUEUE) == 1
    assert worker.cron_jobs[0].next_run == datetime(2026, 1, 2, 1, 0, 0, 123_456, tzinfo=UTC)
