"""The channel: many commands over one connection, replies in order, through every kind of loss."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis.exceptions as errors
from redis.asyncio import Redis

from tests.conftest import wait_until
from twolane.broker import connect
from twolane.channel import Channel, Subscription


@pytest.fixture
async def channel(client: Redis) -> AsyncIterator[Channel]:
    channel = Channel(client)
    yield channel
    await channel.aclose()


@contextlib.asynccontextmanager
async def serving(
    answer: bytes | None, heard: bytearray | None = None
) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """A server that greets as Valkey does, then answers every command so, or (None) never.

    What it was sent besides greetings is put into ``heard``.
    """
    writers: list[asyncio.StreamWriter] = []
    heard = bytearray() if heard is None else heard

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while data := await reader.read(65536):
            if b"PING" in data:
                writer.write(b"+PONG\r\n")
            elif b"CLIENT" in data:
                writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
            else:
                heard.extend(data)
                writer.write(answer or b"")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}", writers
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def wait_heard(heard: bytearray, text: bytes, count: int = 1) -> None:
    async def has_come() -> bool:
        return heard.count(text) == count

    await wait_until(has_come, f"{count} times {text!r}")


async def test_replies_come_in_the_order_of_the_commands(channel: Channel) -> None:
    sent = [channel.send([("ECHO", f"{n}"), ("ECHO", f"{n}.5")]) for n in range(100)]

    replies = await asyncio.gather(*sent)

    assert replies == [[b"%d" % n, b"%d.5" % n] for n in range(100)]


async def test_no_commands_have_no_replies_and_keep_nobody_waiting(channel: Channel) -> None:
    # Nothing was sent, and so the connection was given up for not answering.
    nothing, something = await asyncio.wait_for(
        asyncio.gather(channel.send([]), channel.send([("ECHO", "1")])), 5
    )

    assert (nothing, something) == ([], [b"1"])


async def test_a_reply_of_many_reads_is_put_together(channel: Channel) -> None:
    large = "x" * 5_000_000

    assert await channel.send([("ECHO", large), ("PING",)]) == [large.encode(), b"PONG"]


async def test_an_error_stands_in_its_commands_place(channel: Channel) -> None:
    replies = await channel.send(
        [("PING",), ("EVALSHA", "0" * 40, 0), ("NO-SUCH-COMMAND",), ("PING",)]
    )

    assert (replies[0], replies[3]) == (b"PONG", b"PONG")
    assert isinstance(replies[1], errors.NoScriptError)
    assert isinstance(replies[2], errors.ResponseError)


async def test_giving_up_on_a_reply_mixes_nothing_up() -> None:
    heard = bytearray()
    async with serving(None, heard) as (url, writers):
        client = connect(url)
        channel = Channel(client)
        given_up = asyncio.create_task(channel.send([("ECHO", "given up")]))
        await wait_heard(heard, b"given up")

        given_up.cancel()
        following = asyncio.create_task(channel.send([("ECHO", "next")]))
        await wait_heard(heard, b"next")
        writers[0].write(b"+given up\r\n+next\r\n")

        assert await following == [b"next"]
        assert given_up.cancelled()
        await channel.aclose()
        await client.aclose()


async def test_a_lost_connection_fails_what_waits_and_the_next_one_connects_anew() -> None:
    heard = bytearray()
    async with serving(None, heard) as (url, writers):
        client = connect(url)
        channel = Channel(client)
        waiting = [asyncio.create_task(channel.send([("TIME",)])) for _ in range(3)]

        async def asked(count: int) -> bool:
            return len(writers) == count

        await wait_heard(heard, b"TIME", 3)

        writers[0].close()

        for failed in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(failed, errors.ConnectionError)
        again = asyncio.create_task(channel.send([("TIME",)]))
        await wait_until(lambda: asked(2), "another connection")
        again.cancel()
        await channel.aclose()
        await client.aclose()


async def test_a_server_that_goes_silent_is_given_up() -> None:
    async with serving(None) as (url, _):
        client = connect(url)
        channel = Channel(client, reply_seconds=0.05)

        with pytest.raises(errors.TimeoutError):
            await channel.send([("TIME",)])

        await client.aclose()


async def test_what_is_no_reply_ends_the_connection() -> None:
    async with serving(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (url, _):
        client = connect(url)
        channel = Channel(client)

        with pytest.raises(errors.InvalidResponse):
            await channel.send([("TIME",)])

        await client.aclose()


async def test_no_server_is_a_connection_error(unused_tcp_port: int) -> None:
    client = connect(f"redis://127.0.0.1:{unused_tcp_port}")

    with pytest.raises(errors.ConnectionError):
        await Channel(client).send([("TIME",)])

    await client.aclose()


async def test_the_connection_has_the_clients_database_and_name(broker: str) -> None:
    client = connect(f"{broker}?db=3")
    channel = Channel(client)

    [listed] = await channel.send([("CLIENT", "INFO")])

    assert b" db=3 " in listed
    assert b" name=twolane " in listed
    await channel.aclose()
    await client.aclose()


async def test_a_subscription_hears_what_is_published(client: Redis) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async with Subscription(client, "wake", heard.put_nowait):
        await client.publish("wake", "one")
        await client.publish("other", "not this")
        await client.publish("wake", "two")

        assert [await asyncio.wait_for(heard.get(), 10) for _ in range(2)] == [b"one", b"two"]


async def test_a_subscription_tells_that_its_connection_is_lost(client: Redis) -> None:
    async with Subscription(client, "wake", lambda _: None) as subscription:
        await client.client_kill_filter(_type="pubsub")

        with pytest.raises(errors.ConnectionError):
            await asyncio.wait_for(subscription.wait_lost(), 10)


async def test_a_subscription_that_is_not_allowed_is_an_error(broker: str, client: Redis) -> None:
    await client.acl_setuser(
        "nobody", enabled=True, passwords=["+secret"], categories=["+@all"], commands=["-subscribe"]
    )
    barred = connect(broker, username="nobody", password="secret")

    with pytest.raises(errors.NoPermissionError):
        async with Subscription(barred, "wake", lambda _: None):
            pass

    await barred.aclose()
    await client.acl_deluser("nobody")


async def test_a_handshake_that_is_not_answered_is_given_up() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    sent = asyncio.create_task(Channel(client, reply_seconds=0.05).send([("TIME",)]))
    ended, _ = await asyncio.wait({sent}, timeout=10)

    assert ended
    with pytest.raises(TimeoutError):
        sent.result()
    await client.aclose()
    server.close()


async def test_a_server_that_loads_its_data_is_away_for_now() -> None:
    async with serving(b"-LOADING Valkey is loading the dataset in memory\r\n") as (url, _):
        client = connect(url)
        channel = Channel(client)

        [reply] = await channel.send([("TIME",)])

        assert isinstance(reply, errors.BusyLoadingError)
        await channel.aclose()
        await client.aclose()


async def test_a_server_that_became_a_replica_is_looked_for_anew() -> None:
    async with serving(b"-READONLY You can't write against a read only replica.\r\n") as (url, w):
        client = connect(url)
        channel = Channel(client)

        for _ in range(2):
            [reply] = await channel.send([("TIME",)])
            assert isinstance(reply, errors.ReadOnlyError)

        assert len(w) == 2
        await channel.aclose()
        await client.aclose()
