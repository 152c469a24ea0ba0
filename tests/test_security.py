"""What comes over the wire is data: nothing of it is run, and no credential leaves by it."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from redis.asyncio import Redis

from producer.collect import collect, follow
from tests.cli.conftest import ROOT, Run, run_command, twolane
from tests.e2e.conftest import Start, WorkerProcess, notes, registry, start
from tests.worker.hosting import enqueue, outcomes
from twolane import dead, fleet, keys, runs, wire
from twolane.broker import connect
from twolane.errors import UndecodablePayload
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


async def test_no_report_shows_the_password_of_its_broker(
    locked: Any, start: Start, tmp_path: Path
) -> None:
    url = f"redis://:{CANARY}@127.0.0.1:{locked.port}/0"
    start("io", url=url)
    report = tmp_path / "report.html"
    made = ("job", "add", "left=1", "right=2", "--run", "a", "--jobs", "tests.e2e.e2e_jobs")
    await asyncio.to_thread(run_command, "enqueue", *made, TWOLANE_BROKER=url)

    shown = ("runs", "show", "a", "--wait", "--json", "--report", str(report))
    ended = await asyncio.to_thread(run_command, *shown, TWOLANE_BROKER=url)

    assert ended.code == 0, ended.err
    assert len(report.read_text()) > 10_000
    assert CANARY not in report.read_text() + ended.out + ended.err


async def end_all(workers: list[WorkerProcess]) -> None:
    for one in workers:
        one.send(signal.SIGTERM)
    for one in workers:
        assert await one.wait() == 0
