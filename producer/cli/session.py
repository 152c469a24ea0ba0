"""A command's conversation with the broker, which Ctrl-C ends."""

from __future__ import annotations

import asyncio
import signal
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

    return run(main)


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop; the first Ctrl-C cancels it.

    The cancellation is sent from the loop, while ``work`` waits. asyncio's own handler sends it
    in the midst of what ``work`` does. Pending then, it comes to redis-py's look at an idle
    connection, a read with a timeout of 0, is taken for that timeout, and is lost.

    Raises:
        KeyboardInterrupt: it was cancelled by Ctrl-C.
    """
    interrupted = False

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            task.cancel()

        loop = asyncio.get_running_loop()
        listens = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        if listens:
            loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            return await work()
        finally:
            if listens:
                loop.remove_signal_handler(signal.SIGINT)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
