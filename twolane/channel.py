"""Connections for a process whose pace depends on them: one for commands, one for wake-up calls.

Purpose: what a worker and a bulk producer say to the broker, with the least work a command.
Guarantees: replies come in the order of the commands; a lost connection fails every command that
had no reply, and the next one connects anew; giving up on a reply never mixes it up with another.
Assumptions: one event loop; no command that blocks, subscribes or changes the connection.
A subscription has a connection of its own.

redis-py makes the connection (TLS, password, database, name), then its streams are taken out of the
way: they, its locks and its timeouts cost 60 µs a command where this costs 15.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import hiredis
import redis.exceptions as errors
from redis.asyncio import Redis

from twolane import keys

# Far above any script's time; shorter than what TCP takes to notice that a machine is gone.
REPLY_SECONDS: Final = 20.0

Command = tuple[Any, ...]
Reply = Any  # what hiredis makes of it, or an instance of RedisError


class Channel:
    """Sends commands over a connection of its own, made with the settings of ``client``'s pool."""

    def __init__(self, client: Redis, reply_seconds: float = REPLY_SECONDS) -> None:
        self._client = client
        self._reply_seconds = reply_seconds
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()

    async def send(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands in one write and return their replies.

        An error that the server answers a command with stands in that command's place.

        Raises:
            redis.exceptions.ConnectionError, TimeoutError, OSError: the server is away; which of
                the commands it has carried out is unknown.
        """
        if not commands:
            return []
        data = b"".join([pack(one) for one in commands])
        wire = self._wire
        if wire is None or wire.error is not None:
            wire = await self._connected()
        replies = await wire.send(data, len(commands), self._reply_seconds)
        if any(isinstance(reply, errors.ReadOnlyError) for reply in replies):
            # It is a replica now; who answers to its name next may be the new primary.
            wire.lose(errors.ConnectionError("the server became a replica"))
        return replies

    async def _connected(self) -> _Wire:
        async with self._connecting:
            if self._wire is not None and self._wire.error is None:
                return self._wire
            async with asyncio.timeout(self._reply_seconds):
                transport, connection = await _connect(self._client)
            self._wire = _Wire(transport, connection)
            transport.set_protocol(self._wire)
            return self._wire

    async def aclose(self) -> None:
        """Close the connection; what waits for a reply fails."""
        if self._wire is not None:
            self._wire.lose(errors.ConnectionError("closed"))


class _Wire(asyncio.Protocol):
    """The protocol of one connection, for as long as that lasts."""

    def __init__(self, transport: asyncio.Transport, connection: Any) -> None:
        self.error: Exception | None = None
        self._transport = transport
        self._connection = connection  # closes the transport when it is collected
        self._reader = hiredis.Reader(protocolError=errors.InvalidResponse, replyError=reply_error)
        self._waiting: deque[tuple[asyncio.Future[list[Reply]], int, asyncio.TimerHandle]] = deque()
        self._replies: list[Reply] = []
        self._loop = asyncio.get_running_loop()

    def send(self, data: bytes, count: int, seconds: float) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._too_late)
        self._waiting.append((future, count, timer))
        self._transport.write(data)
        return future

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while self._waiting:
                reply = self._reader.gets()
                if reply is False:
                    return
                self._replies.append(reply)
                future, count, timer = self._waiting[0]
                if len(self._replies) == count:
                    timer.cancel()
                    self._waiting.popleft()
                    replies, self._replies = self._replies, []
                    if not future.done():
                        future.set_result(replies)
        except errors.InvalidResponse as error:
            self.lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(errors.ConnectionError("the broker closed the connection"))

    def _too_late(self) -> None:
        self.lose(errors.TimeoutError("the broker did not answer in time"))

    def lose(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        self._transport.abort()
        while self._waiting:
            future, _, timer = self._waiting.popleft()
            timer.cancel()
            if not future.done():
                future.set_exception(error)


class Subscription(asyncio.Protocol):
    """Calls ``on_message`` with each message on a channel, until the connection is lost.

    ``async with`` opens and closes it.

    Raises:
        redis.exceptions.RedisError, OSError: the server is away, or does not allow it.
    """

    def __init__(self, client: Redis, channel: str, on_message: Callable[[bytes], None]) -> None:
        self._client = client
        self._channel = channel
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._connection: Any = None
        self._reader = hiredis.Reader(protocolError=errors.InvalidResponse, replyError=reply_error)
        self.heard = 0  # how often something came

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._subscribed: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        async with asyncio.timeout(REPLY_SECONDS):
            self._transport, self._connection = await _connect(self._client)
        try:
            self._transport.set_protocol(self)
            self._transport.write(pack(("SUBSCRIBE", self._channel)))
            async with asyncio.timeout(REPLY_SECONDS):
                await self._subscribed
        except BaseException:  # a cancellation too leaves no connection behind
            self._transport.abort()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def wait_lost(self, seconds: float | None = None) -> None:
        """Wait for so long; that the connection is lost is raised."""
        await asyncio.wait([self._lost], timeout=seconds)
        if self._lost.done():
            self._lost.result()

    def ask(self) -> None:
        """Have the server answer, to see whether the connection lives: ``heard`` grows then."""
        assert self._transport is not None, "asked only while it is open"
        self._transport.write(pack(("PING",)))

    def data_received(self, data: bytes) -> None:
        self.heard += 1
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, errors.ResponseError):
                    self._lose(reply)
                elif reply[0] == b"message":
                    self._on_message(reply[2])
                elif not self._subscribed.done():
                    self._subscribed.set_result(None)
        except errors.InvalidResponse as error:
            self._lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(errors.ConnectionError("the broker closed the connection"))

    def _lose(self, error: Exception) -> None:
        for waited in (self._subscribed, self._lost):
            if not waited.done():
                waited.set_exception(error)
                waited.exception()  # whoever waits gets it; nobody need
        if self._transport is not None:
            self._transport.abort()


async def _connect(client: Redis) -> tuple[asyncio.Transport, Any]:
    """A connection with the settings of a client's pool: its transport, and what keeps it open."""
    # redis-py has not annotated it.
    connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    await connection.connect()
    # No public way leads to the transport; tests/twolane/test_channel.py holds redis-py to this.
    return connection._writer.transport, connection


_ERRORS: Final[dict[str, type[errors.RedisError]]] = {
    "NOSCRIPT": errors.NoScriptError,
    "OOM": errors.OutOfMemoryError,
    "LOADING": errors.BusyLoadingError,
    "READONLY": errors.ReadOnlyError,
    "NOPERM": errors.NoPermissionError,
}


def reply_error(text: str) -> errors.RedisError:
    """The exception for an error that the server answered with."""
    return _ERRORS.get(text.partition(" ")[0], errors.ResponseError)(text)


def pack(command: Command) -> bytes:
    """A command's bytes, made in C: in Python they cost a batch more than all else."""
    packed: bytes
    try:
        packed = hiredis.pack_command(command)
    except UnicodeEncodeError:  # an id that is not UTF-8
        raw = (keys.raw_id(one) if isinstance(one, str) else one for one in command)
        # Its annotation is that of one value.
        packed = hiredis.pack_command(tuple(raw))  # type: ignore[arg-type]
    return packed
