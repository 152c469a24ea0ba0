"""Brokers for the operations on the queues: one suite for fakeredis and for a real Valkey.

What a test needs to happen in time (a lease that ends, a payload that expires) is brought about by
what the server would do then: the key is deleted, the score lies in the past.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis

from tests.twolane.store.place import Place
from twolane.broker import connect


@pytest.fixture(params=["fakeredis", "valkey"])
def url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty broker; None for fakeredis."""
    return request.getfixturevalue("broker") if request.param == "valkey" else None


@pytest.fixture
async def place(url: str | None) -> AsyncIterator[Place]:
    client = FakeAsyncRedis(server=FakeServer()) if url is None else connect(url)
    yield Place(client)
    await client.aclose()


@pytest.fixture
async def valkey_place(client: Redis) -> Place:
    """For what fakeredis cannot show."""
    return Place(client)
