"""How a worker hears of work that plain arq producers enqueue."""

from __future__ import annotations

from pathlib import Path

from arq.connections import ArqRedis
from arq.jobs import Job
from redis.asyncio import Redis

from tests.e2e.arq.conftest import APP, POLL, Launch, enqueued
from tests.e2e.conftest import wait_noted


async def test_a_plain_producer_wakes_an_idle_worker_that_does_not_poll(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    worker = launch("Slow", "-v")
    for number in range(3):
        made = await enqueued(pool, "add", 1, number)
        assert await made.result(timeout=10, poll_delay=POLL) == 1 + number
    soon = await enqueued(pool, "add", 1, 2, _defer_by=0.3)
    assert await soon.result(timeout=10, poll_delay=POLL) == 3
    outer = await enqueued(pool, "parent")
    assert await outer.result(timeout=10, poll_delay=POLL) == "child"
    assert await Job("child", pool).result(timeout=10, poll_delay=POLL) == 3

    held = await enqueued(pool, "hold", "held")
    await wait_noted(notes, "held.1.*")
    assert await held.abort(timeout=10, poll_delay=POLL)
    assert "the server tracks no keys" not in worker.log


async def test_a_worker_whose_connections_were_cut_is_woken_again(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    worker = launch("Slow", "--custom-log-dict", f"{APP}.LOGGING")
    made = await enqueued(pool, "add", 1, 1)
    assert await made.result(timeout=10, poll_delay=POLL) == 2

    await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await worker.wait_logged("twolane.worker says broker back while listening for work")

    made = await enqueued(pool, "add", 1, 2)
    assert await made.result(timeout=10, poll_delay=POLL) == 3


async def test_a_server_that_tracks_no_keys_is_polled(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    await client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
    try:
        worker = launch("WorkerSettings", "-v")
        await worker.wait_logged("the server tracks no keys for us")
        made = await enqueued(pool, "add", 1, 2)
        assert await made.result(timeout=10, poll_delay=POLL) == 3
    finally:
        await client.execute_command("ACL", "SETUSER", "default", "+client|tracking")
