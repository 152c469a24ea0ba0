"""``worker.arq.listener`` and the end of a worker, with a server that falls silent or goes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import arq
import pytest
import redis.asyncio as aio
from arq.connections import ArqRedis
from redis.asyncio import Redis

import worker.arq.listener
import worker.arq.runner
from tests.conftest import wait_until
from tests.worker.arq.conftest import POLL, Make, answer, enqueued, pool_of
from twolane import address, keys
from twolane.broker import connect
from twolane.embedded import Embedded
from worker.arq.listener import Listener, listening


@pytest.fixture
async def server() -> AsyncIterator[Embedded]:
    """A server of the test's own, to be stopped."""
    made = Embedded.private()
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.stop)


async def test_a_silent_server_is_not_waited_for_to_arm(
    server: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.arq.listener, "ARM_SECONDS", 0.05)
    client = connect(server.url)
    called = asyncio.Event()
    listener = Listener(client, keys.IO_QUEUE, [keys.IO_QUEUE], lambda changed: called.set())
    async with listening(listener):
        await called.wait()

        os.kill(server.pid, signal.SIGSTOP)
        try:
            # Its own limit: the connection has none, and the worker's main loop waits for this.
            async with asyncio.timeout(10):
                assert await listener.arm() is False
        finally:
            os.kill(server.pid, signal.SIGCONT)
    await client.aclose()


async def test_a_change_is_told_once_for_each_arming(client: Redis) -> None:
    told: list[list[bytes]] = []
    listener = Listener(client, keys.IO_QUEUE, [keys.IO_QUEUE], told.append)
    async with listening(listener):

        async def called() -> bool:
            return len(told) == 1

        await wait_until(called, "the first call")
        assert listener.is_unarmed
        assert await listener.arm() is True
        assert not listener.is_unarmed

        await client.zadd(keys.IO_QUEUE, {"one": 1})
        await client.zadd(keys.IO_QUEUE, {"two": 1})
        await client.publish(keys.wake(keys.IO_QUEUE), "work")  # whatever was told is told by now

        async def all_told() -> bool:
            return told[-1] == [] and len(told) > 1

        await wait_until(all_told, "the published word")
        assert told == [[], [keys.IO_QUEUE.encode()], []]
        assert listener.is_unarmed


async def test_connections_of_resp3_are_polled_for(
    broker: str, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "arq.worker")
    kind: Any = aio.UnixDomainSocketConnection
    path = address.parse(broker).path
    newer = ArqRedis(pool_or_conn=aio.ConnectionPool(connection_class=kind, path=path, protocol=3))
    running = asyncio.create_task(make(answer, redis_pool=newer).async_run())
    for _ in range(3):
        made = await enqueued(pool, "answer")
        assert await made.result(timeout=10, poll_delay=POLL) == 42

    assert "RESP3" in caplog.text
    running.cancel()


async def test_a_worker_does_not_pause_for_what_it_wrote_itself(pool: ArqRedis, make: Make) -> None:
    """It is deaf for a while when others were faster, and only then."""
    worker = make(answer, redis_pool=pool)
    worker._open()
    worker._changed([keys.IO_QUEUE.encode()])
    worker._has_written = True
    await worker._poll_iteration()
    assert worker._pause_s == 0

    worker._changed([keys.IO_QUEUE.encode()])
    worker._has_written = False
    await worker._poll_iteration()
    assert worker._pause_s > 0


async def test_a_worker_with_an_after_job_end_hook_ends_without_its_server(
    server: Embedded, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker.arq.runner, "FAREWELL_SECONDS", 0.2)
    began, after = asyncio.Event(), []

    async def job(ctx: dict[str, Any]) -> None:
        began.set()
        await asyncio.sleep(3600)

    async def after_job_end(ctx: dict[str, Any]) -> None:
        after.append(ctx["job_id"])

    pool = await pool_of(server.url)
    await enqueued(pool, "job")
    one = make(arq.func(job, name="job"), url=server.url, after_job_end=after_job_end)
    running = asyncio.create_task(one.async_run())
    await began.wait()

    await asyncio.to_thread(server.stop)
    # The hook waits for a record that nobody can make.
    async with asyncio.timeout(10):
        await one.close()

    assert "broker away at the end" in caplog.text
    assert after == []
    await asyncio.gather(running, return_exceptions=True)
    await pool.aclose()
