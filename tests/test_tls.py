"""TLS, against a server with a certificate of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.conftest import wait_until
from tests.e2e.conftest import Start, WorkerProcess, notes, registry, start
from tests.worker.hosting import enqueue, outcomes
from twolane import broker
from twolane.broker import connect
from twolane.errors import BrokerRefused
from twolane.registry import Registry

__all__ = ["notes", "registry", "start"]

CANARY = "c4n4ry-0f-4-p4ssw0rd"


async def end(worker: WorkerProcess) -> None:
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(tmp_path: Path, certificate: trustme.LeafCert, port: int) -> subprocess.Popen[bytes]:
    """A Redis: the Valkey that is installed from PyPI is built without TLS.

    It is the one of Debian's redis-tools, which starts no service of its own as redis-server does:
    one program under several names, which does what it is called.
    """
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(one.bytes() for one in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    with (tmp_path / "tls.log").open("wb") as log:
        return subprocess.Popen(
            [
                "redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1",
                "--tls-cert-file", str(chain), "--tls-key-file", str(key),
                "--tls-auth-clients", "no", "--tls-ca-cert-file", str(chain),
                "--save", "", "--dir", str(tmp_path), "--requirepass", CANARY,
            ],
            executable="/usr/bin/redis-check-rdb",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Secured:
    """A TLS server whose certificate names ``host``."""

    def __init__(self, tmp_path: Path, authority: trustme.CA) -> None:
        self._tmp_path = tmp_path
        self._authority = authority
        self.authority_file = tmp_path / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority_file))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, certificate: trustme.LeafCert) -> None:
        self._process = tls_server(self._tmp_path, certificate, self.port)

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return False
            writer.close()
            return True

        await wait_until(listens, "the TLS server")

    def url(self, host: str = "127.0.0.1", authority: bool = True) -> str:
        query = f"?ssl_ca_certs={self.authority_file}" if authority else ""
        return f"rediss://:{CANARY}@{host}:{self.port}/0{query}"

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
async def secured(tmp_path: Path, authority: trustme.CA) -> AsyncIterator[Secured]:
    made = Secured(tmp_path, authority)
    yield made
    made.end()


async def ping(url: str) -> None:
    client = connect(url)
    try:
        await broker.check(client, url)
    finally:
        await client.aclose()


async def test_a_server_whose_certificate_names_it_is_used_by_clients_and_workers(
    secured: Secured, authority: trustme.CA, registry: Registry, start: Start
) -> None:
    await secured.start(authority.issue_cert("127.0.0.1", "localhost"))
    client = connect(secured.url())
    worker = start("io", url=secured.url())

    (one,) = await outcomes(
        client, await enqueue(client, registry, "add", {"left": 1, "right": 2})
    )  # fmt: skip

    assert one.result == 3
    await ping(secured.url("localhost"))
    await end(worker)
    assert CANARY not in worker.log
    await client.aclose()


@pytest.mark.parametrize("fault", ["another name", "another authority", "expired"])
async def test_a_server_that_is_not_who_it_says_gets_no_password(
    secured: Secured, authority: trustme.CA, start: Start, fault: str
) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    certificate = {
        "another name": authority.issue_cert("elsewhere.test"),
        "another authority": trustme.CA().issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_after=past),
    }[fault]
    await secured.start(certificate)

    with pytest.raises(BrokerRefused, match="does not verify") as caught:
        await ping(secured.url())
    worker = start("io", url=secured.url())

    assert await worker.wait() == 3
    assert "does not verify" in worker.log
    assert CANARY not in str(caught.value) + worker.log
    # The server has seen no AUTH: the handshake came first.
    log = await asyncio.to_thread((secured.authority_file.parent / "tls.log").read_text)
    assert CANARY not in log


async def test_a_self_signed_certificate_is_refused_unless_its_authority_is_given(
    secured: Secured, authority: trustme.CA
) -> None:
    await secured.start(authority.issue_cert("127.0.0.1"))

    with pytest.raises(BrokerRefused, match="does not verify"):
        await ping(secured.url(authority=False))
    await ping(secured.url())
