"""Connecting: getting in, and what each refusal tells."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from pathlib import Path

import pytest
import redis.exceptions

from tests.twolane.broker.canary import (
    CANARY,
    ENCODED,
    assert_keeps_the_secret,
    check,
    free_port,
    hang_up,
    shown,
)
from twolane import broker
from twolane.embedded import Embedded
from twolane.errors import BrokerError, BrokerRefused, BrokerUnreachable

# Getting in


async def test_a_running_server_is_reached(server: Embedded) -> None:
    await check(server.url)


async def test_a_password_opens_a_socket_and_a_port(locked: tuple[str, int]) -> None:
    path, port = locked

    await check(f"unix://{path}?password={ENCODED}")
    await check(f"unix://:{ENCODED}@{path}")
    await check(f"redis://:{ENCODED}@127.0.0.1:{port}/0")
    await check(f"valkey://default:{ENCODED}@localhost:{port}/0")


async def test_a_database_is_one_of_its_own(server: Embedded) -> None:
    with (
        broker.connect_blocking(f"{server.url}?db=3", 5) as third,
        broker.connect_blocking(server.url, 5) as first,
    ):
        third.set("only-in-three", "1")

        assert third.get("only-in-three") == b"1"
        assert first.get("only-in-three") is None


async def test_replies_are_bytes_and_the_client_has_a_name(server: Embedded) -> None:
    client = broker.connect(server.url)
    try:
        assert await client.echo("x") == b"x"
        assert await client.client_getname() == "twolane"  # redis-py's own callback decodes it
    finally:
        await client.aclose()


async def test_no_command_is_sent_twice_on_its_own(server: Embedded) -> None:
    client = broker.connect(server.url)
    try:
        retry = client.connection_pool.make_connection().retry

        assert retry._retries == 0
    finally:
        await client.aclose()


async def test_a_blocking_client_gives_up_in_time(server: Embedded) -> None:
    with (
        broker.connect_blocking(server.url, socket_timeout=0.05) as client,
        pytest.raises(redis.exceptions.TimeoutError),
    ):
        client.blpop(["nothing-comes"], timeout=0)


# Being refused


@pytest.mark.parametrize(
    ("userinfo", "says"),
    [
        ("", "wants a password; put it in the URL"),
        (":wrong@", "refuses the user name or password"),
        (f"nobody:{ENCODED}@", "refuses the user name or password"),
    ],
)
async def test_a_missing_or_wrong_password_is_refused(
    locked: tuple[str, int], userinfo: str, says: str
) -> None:
    path, port = locked

    for url in (f"unix://{userinfo}{path}", f"redis://{userinfo}127.0.0.1:{port}/2"):
        with pytest.raises(BrokerRefused, match=says) as caught:
            await check(url)

        assert "\n" not in str(caught.value)
        assert_keeps_the_secret(shown(caught.value))


async def test_a_password_for_a_server_without_one_is_refused(server: Embedded) -> None:
    with pytest.raises(BrokerRefused, match="take it out of the URL") as caught:
        await check(f"{server.url}?password={ENCODED}")

    assert_keeps_the_secret(shown(caught.value))


async def test_a_database_out_of_range_is_refused(server: Embedded) -> None:
    with pytest.raises(BrokerRefused, match=r"v\w+\.sock\?db=99 has no database of that number"):
        await check(f"{server.url}?db=99")


async def test_a_user_without_permission_is_refused(locked: tuple[str, int]) -> None:
    path, _ = locked
    with broker.connect_blocking(f"unix://:{ENCODED}@{path}", 5) as client:
        client.execute_command("ACL", "SETUSER", "guest", "on", ">guest", "+client", "+select")

    with pytest.raises(BrokerRefused, match=r"forbids what we need .*'ping'.*ACL SETUSER"):
        await check(f"unix://guest:guest@{path}")


async def test_a_closed_port_is_unreachable_and_the_next_step_is_named() -> None:
    port = free_port()

    with pytest.raises(BrokerUnreachable) as caught:
        await check(f"redis://:{ENCODED}@127.0.0.1:{port}/0")

    assert str(caught.value) == (
        f"no Valkey or Redis answers at redis://***@127.0.0.1:{port}/0 (Connection refused); "
        "start one with `twolane up`, or name yours with --broker URL or TWOLANE_BROKER"
    )
    assert_keeps_the_secret(shown(caught.value))


async def test_a_name_with_several_addresses_gives_one_reason() -> None:
    with pytest.raises(BrokerUnreachable, match=r"\(Connection refused\)"):
        await check(f"redis://localhost:{free_port()}")


async def test_a_missing_socket_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnreachable, match=r"\(No such file or directory\)"):
        await check(f"unix://{tmp_path}/v.sock")


async def test_an_unknown_host_is_unreachable() -> None:
    with pytest.raises(BrokerUnreachable, match="the host's name is not known"):
        await check("redis://no-such-host.invalid")


async def test_a_server_that_says_nothing_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(BrokerUnreachable, match="no answer in time"),
    ):
        await check(f"redis://127.0.0.1:{mute.getsockname()[1]}")


async def test_a_server_that_echoes_the_password_does_not_make_us_show_it() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(f"-ERR \x1b[31m{CANARY}, with args beginning with: '{CANARY}'\r\n".encode())
        await hang_up(writer)

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as stranger:
        port = stranger.sockets[0].getsockname()[1]

        with pytest.raises(BrokerError) as caught:
            await check(f"redis://:{ENCODED}@127.0.0.1:{port}")

    assert_keeps_the_secret(shown(caught.value))
    assert "\x1b" not in str(caught.value)


async def test_a_web_server_is_no_broker() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await hang_up(writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as web:
        with pytest.raises(BrokerUnreachable, match="speaks another protocol"):
            await check(f"redis://127.0.0.1:{web.sockets[0].getsockname()[1]}")


def test_a_server_that_loads_is_unreachable_for_a_moment() -> None:
    error = broker.explain(redis.exceptions.BusyLoadingError("LOADING"), "redis://host")

    assert isinstance(error, BrokerUnreachable)
    assert "try again in a moment" in str(error)


async def test_clients_and_logs_keep_the_secret(
    locked: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    path, port = locked
    caplog.set_level(logging.DEBUG)

    for url in (f"unix://:{ENCODED}@{path}", f"redis://:{ENCODED}@127.0.0.1:{port}"):
        client = broker.connect(url)
        await broker.check(client, url)
        with broker.connect_blocking(url, 5) as blocking:
            blocking.ping()
            for thing in (client, client.connection_pool, blocking, blocking.connection_pool):
                assert_keeps_the_secret(repr(thing) + str(thing))
            assert_keeps_the_secret(repr(client.connection_pool.connection_kwargs))
            assert_keeps_the_secret(repr(blocking.connection_pool.connection_kwargs))
        await client.aclose()
        assert_keeps_the_secret(repr(broker.parse(url)) + str(broker.parse(url)))

    assert_keeps_the_secret(caplog.text)


@pytest.mark.parametrize("pipelined", [False, True])
async def test_a_key_of_another_type_is_told_with_who_names_it(
    server: Embedded, pipelined: bool
) -> None:
    client = broker.connect(server.url)
    try:
        await client.set("arq:abort", "a stray client's")
        pipe = client.pipeline()
        looks = pipe.zcard("arq:abort").execute if pipelined else partial(client.zcard, "arq:abort")
        with pytest.raises(redis.exceptions.ResponseError) as caught:
            await looks()
    finally:
        await client.delete("arq:abort")
        await client.aclose()

    told = str(broker.explain(caught.value, server.url))
    assert "a key of ours that is of another type" in told
    assert told.endswith("the workers' logs name it: delete it (DEL)")
