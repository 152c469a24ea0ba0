"""What comes over the wire is data: nothing of it is run, and no credential leaves by it."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import trustme
from redis.asyncio import Redis

from producer.collect import collect, follow
from tests.cli.conftest import ROOT, Run, run_command, twolane
from tests.conftest import wait_until
from tests.e2e.conftest import Start, WorkerProcess, notes, registry, start
from tests.worker.hosting import enqueue, outcomes
from twolane import broker, dead, fleet, keys, runs, wire
from twolane.broker import connect
from twolane.errors import BrokerRefused, UndecodablePayload
from twolane.registry import Registry
from twolane.store import NewJob, Store

__all__ = ["notes", "registry", "start", "twolane"]

CANARY = "c4n4ry-0f-4-p4ssw0rd"


@pytest.fixture
def valkey_with(tmp_path: Path) -> Callable[..., Any]:
    """A server of its own with settings of its own."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from chaoslab.valkey import Valkey
    finally:
        sys.path.remove(str(ROOT / "scripts"))

    def make(**settings: str) -> Any:
        return Valkey(tmp_path / "valkey", settings=settings)

    return make


# -- Nothing is unpickled --


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


class Place(NamedTuple):
    path: Path

    def is_sprung(self) -> bool:
        return self.path.exists()


@pytest.fixture
def trap(tmp_path: Path) -> Place:
    return Place(tmp_path / "sprung")


# Each protocol is tried by tests/twolane/wire; the oldest and the newest go the whole way.
@pytest.mark.parametrize("lane", ["io", "cpu"])
@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
async def test_a_pickle_as_payload_is_a_recorded_failure_wherever_it_is_looked_at(
    client: Redis, start: Start, twolane: Run, trap: Place, lane: keys.Lane, protocol: int
) -> None:
    run = await runs.create(client, "test")
    job_id = runs.job_id(run.name, 0)
    pickled = pickle.dumps(
        {"t": None, "f": "add", "a": (Trap(trap.path),), "k": {}, "et": 1}, protocol
    )
    await Store(client).enqueue_many(keys.QUEUES[lane], [NewJob(job_id, pickled)], run.name)
    await runs.seal(client, run.name)
    start(lane)

    (one,) = await outcomes(client, run.name)
    assert one.error is not None
    assert one.error.type == "UndecodablePayload"
    for command in (
        ("runs", "show", run.name), ("runs", "show", run.name, "--json"),
        ("runs", "collect", run.name), ("dead", "list"), ("dead", "list", "--json"), ("status",),
    ):  # fmt: skip
        await asyncio.to_thread(twolane, *command)
    await asyncio.to_thread(twolane, "dead", "retry", "--all")

    assert not trap.is_sprung()
    pickle.loads(pickled)
    assert trap.is_sprung()  # it would have sprung


async def test_a_pickle_as_result_is_told_as_no_result_wherever_it_is_read(
    client: Redis, twolane: Run, trap: Place
) -> None:
    run = await runs.create(client, "test", "trapped")
    job_id = runs.job_id(run.name, 0)
    pickled = pickle.dumps({"s": True, "r": Trap(trap.path)})
    await Store(client).enqueue_many(keys.IO_QUEUE, [NewJob(job_id, b"x")], run.name)
    await runs.seal(client, run.name)
    await client.delete(keys.IO_QUEUE, keys.job(job_id))
    await client.set(keys.result(job_id), pickled)
    await client.xadd(keys.run_outcomes(run.name), {"o": pickled})
    await client.hset(keys.run(run.name), "done", "1")
    letter = {"payload": pickled, "result": pickled, "queue": keys.IO_QUEUE, "died": "1"}
    await client.hset(keys.dead(job_id), mapping=letter)
    await client.zadd(keys.DEAD, {job_id: 1})
    await client.set(keys.worker("w"), pickled)

    with pytest.raises(UndecodablePayload):
        await collect(client, run.name)
    with pytest.raises(UndecodablePayload):
        await follow(client, run.name, timeout=5)
    assert [one.error async for one in dead.letters(client, [job_id])] == ["?"]
    for command in (
        ("runs", "show", run.name), ("runs", "show", run.name, "--json"),
        ("runs", "collect", run.name), ("dead", "list"), ("dead", "list", "--json"),
    ):  # fmt: skip
        ended = await asyncio.to_thread(twolane, *command)
        assert "Traceback" not in ended.err

    assert not trap.is_sprung()


# -- Sizes are looked at before bytes are decoded --


async def test_a_payload_over_the_limit_is_refused_before_it_is_decoded(
    client: Redis, start: Start, registry: Registry
) -> None:
    # A payload of one list of millions of numbers would be some hundred MB of Python objects.
    head = wire.dumps({"t": None, "f": "add", "et": 1, "k": {}})
    many = b"\xdd" + (17 * 2**20).to_bytes(4, "big") + bytes(17 * 2**20)
    payload = b"\x85" + head[1:] + wire.dumps("a") + many
    run = await runs.create(client, "test")
    job_id = runs.job_id(run.name, 0)
    await Store(client).enqueue_many(keys.IO_QUEUE, [NewJob(job_id, payload)], run.name)
    await runs.seal(client, run.name)
    worker = start("io")
    before = (await worker.heartbeat(client)).memory_bytes

    (one,) = await outcomes(client, run.name)

    assert one.error is not None
    assert one.error.type == "PayloadTooLarge"
    # The bytes themselves are received; the list would take eight times as much.
    assert psutil.Process(worker.pid).memory_info().rss < before + 80 * 2**20


# -- A credential is told to the broker alone --


@pytest.fixture
async def locked(valkey_with: Callable[..., Any]) -> AsyncIterator[Any]:
    server = valkey_with(requirepass=CANARY)
    await server.start()
    yield server
    await server.remove()


def titles(pid: int) -> str:
    """What `ps` and the like show of a process and its children, their environment aside."""
    shown = ""
    for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        shown += " ".join([one.name(), *one.cmdline()])
    return shown


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",), ("status", "--json"), ("runs",), ("runs", "--json"), ("runs", "show", "nope"),
    ("runs", "collect", "nope"), ("dead", "list"), ("dead", "retry", "--all"),
    ("dead", "drop", "nope"), ("cancel", "nope"), ("jobs",), ("watch", "--once"),
    ("enqueue", "job", "add", "left=1", "right=2", "--jobs", "tests.e2e.e2e_jobs"),
    ("worker", "io", "--burst", "--jobs", "tests.e2e.e2e_jobs", "--log-level", "debug"),
    ("worker", "cpu", "--burst", "--jobs", "tests.e2e.e2e_jobs", "--log-level", "debug"),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("place", ["right", "wrong", "away", "malformed"])
async def test_no_command_shows_the_password_of_its_broker(
    locked: Any, command: tuple[str, ...], place: str
) -> None:
    url = {
        "right": f"redis://:{CANARY}@127.0.0.1:{locked.port}/0",
        "wrong": f"redis://somebody:{CANARY}@127.0.0.1:{locked.port}/0",
        "away": f"redis://:{CANARY}@127.0.0.1:1/0",
        "malformed": f"redis://:{CANARY}@127.0.0.1:port/zero",
    }[place]

    ended = await asyncio.to_thread(run_command, *command, TWOLANE_BROKER=url)

    assert CANARY not in ended.out + ended.err
    if place != "right" and command != ("jobs",):
        assert ended.code in (2, 3), ended


async def test_a_working_fleet_shows_the_password_nowhere(
    locked: Any, registry: Registry, start: Start, notes: Path
) -> None:
    url = f"redis://:{CANARY}@127.0.0.1:{locked.port}/0"
    client = connect(url)
    workers = [start(lane, "--log-level", "debug", url=url) for lane in ("io", "cpu")]
    failing = await enqueue(client, registry, "fail", {"message": "no"})
    outage = await enqueue(client, registry, "nap", *[{"seconds": 0.01}] * 20)
    await outcomes(client, failing)
    shown = "".join(titles(one.pid) for one in workers)
    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await outcomes(client, outage)

    # What the broker has: heartbeats, records, dead letters.
    for key in [one async for one in client.scan_iter("*")]:
        kind = await client.type(key)
        if kind == b"string":
            shown += repr(await client.get(key))
        elif kind == b"hash":
            shown += repr(await client.hgetall(key))
        elif kind == b"stream":
            shown += repr(await client.xrange(key))
    shown += repr(await fleet.workers(client)) + repr(client) + repr(client.connection_pool)
    await end_all(workers)
    shown += "".join(one.log for one in workers)
    await client.aclose()

    assert len(shown) > 3_000
    assert CANARY not in shown


async def end_all(workers: list[WorkerProcess]) -> None:
    for one in workers:
        one.send(signal.SIGTERM)
    for one in workers:
        assert await one.wait() == 0


# -- TLS, against a server with a certificate of its own --


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
    await end_all([worker])
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
