"""Workers of ``worker.arq`` within the test's own process, and arq's own client beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job

from twolane import address
from worker.arq import Worker

POLL = 0.01
Make = Callable[..., Worker]


@pytest.fixture
async def pool(broker: str) -> AsyncIterator[ArqRedis]:
    made = await pool_of(broker)
    yield made
    await made.aclose()


@pytest.fixture
async def make(broker: str) -> AsyncIterator[Make]:
    """Make workers that poll fast, and are closed."""
    made: list[Worker] = []

    def make(*functions: Any, url: str = broker, **options: Any) -> Worker:
        defaults = {"redis_settings": settings_of(url), "handle_signals": False}
        made.append(Worker(functions, **defaults | {"poll_delay": POLL} | options))
        return made[-1]

    yield make
    for worker in made:
        await worker.close()


def settings_of(url: str) -> RedisSettings:
    return RedisSettings(unix_socket_path=address.parse(url).path)


async def pool_of(url: str) -> ArqRedis:
    return await arq.create_pool(settings_of(url))


async def enqueued(pool: ArqRedis, function: str, *args: Any, **options: Any) -> Job:
    made = await pool.enqueue_job(function, *args, **options)
    assert made is not None
    return made


async def answer(ctx: dict[str, Any]) -> int:
    return 42
