"""Talks to the server of an application in the way that the application has set up."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import redis
import redis.asyncio as aio
import redis.sentinel
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ResponseError

from twolane.channel import Channel, Command, Reply

# Objects of the asyncio side, and what the blocking side decides for itself.
NOT_TAKEN: Final = frozenset(
    {"retry", "retry_on_error", "retry_on_timeout", "redis_connect_func", "parser_class",
     "encoder_class", "connection_pool", "event_dispatcher"}
)  # fmt: skip
CLASSES: Final[list[tuple[type, type[redis.connection.AbstractConnection]]]] = [
    (aio.SSLConnection, redis.SSLConnection),
    (aio.UnixDomainSocketConnection, redis.UnixDomainSocketConnection),
    (aio.Connection, redis.Connection),
]


class PoliteChannel(Channel):
    """Sends commands by the client itself: with the application's own policy of retries."""

    def __init__(self, client: aio.Redis) -> None:
        super().__init__(client)
        self._execute: Any = client.execute_command

    async def send(self, commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = []
        for command in commands:
            try:
                replies.append(await self._execute(*command))
            except ResponseError as error:
                replies.append(error)
        return replies


def blocking_client(client: aio.Redis, timeout_seconds: float) -> redis.Redis | None:
    """A client with connections of its own; nothing is sent before its first command.

    ``timeout_seconds`` bounds connecting and each reply. None for a pool of connections that
    redis-py does not have: only who made it knows its like.
    """
    pool = client.connection_pool
    bounds = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    if isinstance(pool, SentinelConnectionPool):
        given = {**_taken(pool.connection_kwargs, redis.Connection), **bounds}
        known = (one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels)
        addresses = [(one["host"], one["port"]) for one in known]
        ssl = issubclass(pool.connection_class, aio.SSLConnection)
        sentinel: Any = redis.sentinel.Sentinel
        asked = sentinel(addresses, sentinel_kwargs=bounds, ssl=ssl, **given)
        blocking: redis.Redis = asked.master_for(pool.service_name)
        return blocking
    for theirs, ours in CLASSES:
        if pool.connection_class is theirs:
            arguments = {**_taken(pool.connection_kwargs, ours), **bounds}
            return redis.Redis(
                connection_pool=redis.ConnectionPool(connection_class=ours, **arguments)
            )
    return None


def _taken(arguments: dict[str, Any], connection: type) -> dict[str, Any]:
    known: set[str] = set()
    for one in connection.__mro__[:-1]:
        known |= set(inspect.signature(one).parameters)
    return {
        name: value for name, value in arguments.items() if name in known and name not in NOT_TAKEN
    }
