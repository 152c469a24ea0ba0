"""A command's conversation with the broker, which Ctrl-C ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from traceback import walk_tb
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

WRITERS: Final = ("click.", "rich.", "producer.cli.output")


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
            if _is_of_output(error):
                raise
            failure = explain(error, url)
        finally:
            await client.aclose()
        raise failure

    return run(main)


def _is_of_output(error: BaseException) -> bool:
    """Whether it was raised by what writes to the terminal or the pipe, and not by the broker."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return any(name.startswith(WRITERS) for name in names)


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
