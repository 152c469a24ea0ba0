"""``worker.arq.client``: the blocking client for the thread that renews leases."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import redis.asyncio as aio
from arq.connections import ArqRedis
from redis.asyncio.sentinel import Sentinel

from worker.arq.client import blocking_client


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("redis://user:word@somewhere:6380/3", redis.Connection),
        ("rediss://user:word@somewhere:6380/3", redis.SSLConnection),
        ("unix:///a/socket?db=3", redis.UnixDomainSocketConnection),
    ],
)
async def test_a_blocking_client_is_made_as_the_application_s(
    url: str, made: type[redis.Connection]
) -> None:
    theirs = aio.Redis.from_url(url, retry_on_timeout=True)

    ours = blocking_client(theirs, 2.0)

    assert ours is not None
    given = ours.connection_pool.connection_kwargs
    assert ours.connection_pool.connection_class is made
    assert given["db"] == 3
    assert given["socket_timeout"] == 2.0
    if made is not redis.UnixDomainSocketConnection:
        assert (given["host"], given["port"], given["password"]) == ("somewhere", 6380, "word")
    ours.connection_pool.make_connection()  # its arguments are ones that it takes
    await theirs.aclose()


async def test_a_blocking_client_asks_the_same_sentinels() -> None:
    sentinel: Any = Sentinel([("one", 26379), ("two", 26380)], password="word", db=2)
    theirs = sentinel.master_for("mymaster", redis_class=ArqRedis)

    ours = blocking_client(theirs, 2.0)

    assert ours is not None
    pool: Any = ours.connection_pool
    asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("one", 26379), ("two", 26380)]
    assert (pool.service_name, pool.connection_kwargs["db"]) == ("mymaster", 2)
    assert pool.connection_kwargs["password"] == "word"
    await theirs.aclose()


async def test_there_is_no_blocking_client_for_connections_of_an_unknown_class() -> None:
    class Own(aio.Connection):
        pass

    assert blocking_client(aio.Redis(connection_pool=aio.ConnectionPool(Own)), 2.0) is None
