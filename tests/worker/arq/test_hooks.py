"""An application's hooks around its jobs: what their errors and their waits cost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job

from tests.worker.arq.conftest import POLL, Make, answer, enqueued


@pytest.mark.parametrize("hook", ["on_job_start", "on_job_end", "after_job_end"])
async def test_a_hook_s_error_costs_its_job_at_the_most(
    pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    async def broken(ctx: dict[str, Any]) -> None:
        if ctx["job_id"] == "first":
            raise LookupError("the hook's own")

    for job_id in ("first", "second"):
        await enqueued(pool, "answer", _job_id=job_id)
    worker = make(answer, burst=True, **{hook: broken})

    await worker.async_run()

    first = Job("first", pool).result(poll_delay=POLL)
    if hook == "on_job_start":
        with pytest.raises(LookupError, match="the hook's own"):
            await first
    else:
        assert await first == 42
    assert "the hook's own" in caplog.text
    assert await Job("second", pool).result(poll_delay=POLL) == 42


async def test_a_job_that_is_cancelled_in_its_end_hook_has_ended(
    pool: ArqRedis, make: Make
) -> None:
    reached = asyncio.Event()

    async def slow(ctx: dict[str, Any]) -> None:
        reached.set()
        await asyncio.sleep(3600)

    made = await enqueued(pool, "answer")
    worker = make(answer, on_job_end=slow)
    running = asyncio.create_task(worker.async_run())
    await reached.wait()

    await worker.close()

    assert await made.result(poll_delay=POLL) == 42
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("hook", ["on_job_end", "after_job_end"])
async def test_no_more_hooks_run_at_once_than_there_are_slots(
    pool: ArqRedis, make: Make, hook: str
) -> None:
    """An application has as many connections to its database, say, as its worker has slots."""
    running = most = 0

    async def slow(ctx: dict[str, Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):
            await pool.ping()
        running -= 1

    for _ in range(10):
        await enqueued(pool, "answer")

    await make(answer, burst=True, max_jobs=2, **{hook: slow}).async_run()

    assert most == 2
