"""Talks to the server of an application in the way that the application has set up."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import redis
import redis.asyncio as aio
import redis.sentinel
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import NoScriptError

from twolane.store import Script

# Objects of the asyncio side, and what the blocking side decides for itself.
NOT_TAKEN: Final = frozenset(
    {"retry", "retry_on_error", "retry_on_timeout", "redis_connect_func", "parser_class",
     "encoder_class", "connection_pool", "event_dispatcher"}
)  # fmt: skip
CLASSES: Final[list[tuple[type, type[redis.Connection]]]] = [
    (aio.SSLConnection, redis.SSLConnection),
    (aio.UnixDomainSocketConnection, redis.UnixDomainSocketConnection),  # type: ignore[list-item]
    (aio.Connection, redis.Connection),
]


class PoliteScript(Script):
    """A script that is sent by the client itself: with the application's own policy of retries."""

    async def __call__(self, client: aio.Redis, keys_: Sequence[str], args: Sequence[Any]) -> Any:
        rest = (len(keys_), *keys_, *args)
        execute: Any = client.execute_command
        try:
            return await execute("EVALSHA", self.sha, *rest)
        except NoScriptError:
            return await execute("EVAL", self.text, *rest)


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
        return asked.master_for(pool.service_name)  # type: ignore[no-any-return]
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
