"""Workers of the IO lane that know the jobs of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from redis.asyncio import Redis

from tests.worker.engine.jobs import REGISTRY
from tests.worker.hosting import HostedWorker, hosted

Host = Callable[..., AbstractAsyncContextManager[HostedWorker]]


@pytest.fixture
def host(broker: str, client: Redis) -> Host:
    """Start a worker that knows all the jobs of these tests."""
    return lambda **options: hosted(broker, client, REGISTRY, **options)


@pytest.fixture
async def running(host: Host) -> AsyncIterator[HostedWorker]:
    async with host() as worker:
        yield worker
