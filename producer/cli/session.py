"""A command's conversation with the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")


def with_broker(broker: str | None, work: Callable[[Redis], Awaitable[T]]) -> T:
    """Connect to ``broker`` (or the default), run ``work`` with the client, close it.

    Raises:
        BrokerError: it cannot be used, or was lost on the way; one line, no credentials.
    """
    from redis.exceptions import RedisError

    from twolane.broker import check, connect, explain, resolve

    url = resolve(broker)

    async def main() -> T:
        client = connect(url)
        try:
            await check(client, url)
            return await work(client)
        except (RedisError, OSError) as error:
            failure = explain(error, url)
        finally:
            await client.aclose()
        raise failure

    return asyncio.run(main())
