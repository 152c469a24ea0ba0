"""How a worker ends, and what does not end it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import arq
import pytest
from arq.connections import ArqRedis
from arq.jobs import JobStatus
from redis.asyncio import Redis

from tests.e2e.arq.conftest import POLL, Launch, enqueued, pool_of
from tests.e2e.conftest import wait_noted
from twolane.broker import connect
from twolane.embedded import Embedded


async def test_sigterm_cancels_running_jobs_which_are_tried_again(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "first_holds", _job_id="one")
    worker = launch("WorkerSettings")
    await wait_noted(notes, "first.1.*")

    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0

    assert "shutdown on SIGTERM ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing" in worker.log
    assert "one:first_holds cancelled, will be run again" in worker.log
    assert (notes / "shutdown").exists()
    assert await made.status() is JobStatus.queued  # at once: there is no lease to wait for
    launch("WorkerSettings")
    assert await made.result(timeout=10, poll_delay=POLL) == 2


async def test_job_completion_wait_lets_jobs_end_after_sigterm(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "hold", "held", _job_id="one")
    worker = launch("Patient")
    await wait_noted(notes, "held.1.*")

    worker.send(signal.SIGTERM)
    await worker.wait_logged("1 to be completed")
    late = await enqueued(pool, "hold", "late")
    (notes / "go").touch()

    assert await worker.wait() == 0
    assert "wait complete ◆ 1 jobs complete ◆ 0 failed ◆ 0 retries ◆ 0 ongoing" in worker.log
    assert (await made.result(timeout=1, poll_delay=POLL)).startswith("held.1.")
    assert await late.status() is JobStatus.queued


async def test_a_job_that_exits_costs_no_other_job_its_worker(
    pool: ArqRedis, launch: Launch
) -> None:
    worker = launch("WorkerSettings")

    left = await enqueued(pool, "leave")
    with pytest.raises(arq.worker.JobExecutionFailed, match="SystemExit: 3"):
        await left.result(timeout=10, poll_delay=POLL)

    made = await enqueued(pool, "add", 1, 2)
    assert await made.result(timeout=10, poll_delay=POLL) == 3
    assert worker.is_running


async def test_a_restart_of_the_server_is_survived(launch: Launch, notes: Path) -> None:
    server = Embedded.for_user("always")
    await asyncio.to_thread(server.start)
    client = connect(server.url)
    pool = await pool_of(server.url)
    worker = launch("WorkerSettings", url=server.url)
    running = await enqueued(pool, "hold", "held")
    await wait_noted(notes, "held.1.*")

    await asyncio.to_thread(server.stop)
    await worker.wait_logged("broker away while polling the queue")
    (notes / "go").touch()  # the job ends while the server is away
    await worker.wait_logged("broker away while recording results")
    await asyncio.to_thread(server.start)

    assert (await running.result(timeout=10, poll_delay=POLL)).startswith("held.")
    made = await enqueued(pool, "add", 1, 2)
    assert await made.result(timeout=10, poll_delay=POLL) == 3
    assert worker.is_running
    assert "Traceback" not in worker.log
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0
    await pool.aclose()
    await client.aclose()
    await asyncio.to_thread(server.stop)
