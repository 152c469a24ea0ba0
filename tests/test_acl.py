"""The roles on the broker: each can do all of its own work, and what the others do it cannot."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from producer.cancel import cancel_jobs
from producer.environment import broker_of
from tests.e2e.conftest import ROOT, Start, notes, registry, start, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import acl, dead, fleet, keys, queues, runs, wire
from twolane.broker import connect
from twolane.registry import Registry
from twolane.store import Cancellation, NewJob, Store

__all__ = ["notes", "registry", "start"]

PASSWORDS = {
    "default": "owner-1", "producer": "producer-2", "worker": "worker-3", "dashboard": "board-4",
}  # fmt: skip
Connect = Callable[[str], Redis]


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """A server with the roles' ACL file, as the compose file's has it."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from chaoslab.valkey import Valkey
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    users = tmp_path / "users.acl"
    users.write_text(acl.file(PASSWORDS), encoding="ascii")
    # What the server itself would refuse to anybody proves nothing of a role.
    settings = {"aclfile": str(users), "enable-debug-command": "yes"}
    server = Valkey(tmp_path / "valkey", settings=settings)
    await server.start()
    yield server.port
    await server.remove()


def url(port: int, role: str) -> str:
    return f"redis://{role}:{PASSWORDS[role]}@127.0.0.1:{port}/0"


@pytest.fixture
async def log_in(port: int) -> AsyncIterator[Connect]:
    opened: list[Redis] = []

    def log_in(role: str) -> Redis:
        opened.append(connect(url(port, role)))
        return opened[-1]

    yield log_in
    for one in opened:
        await one.aclose()


# -- What each can --


async def test_producer_and_workers_do_all_of_their_work(
    port: int, log_in: Connect, registry: Registry, start: Start, notes: Path
) -> None:
    producer = log_in("producer")
    workers = [start(lane, url=url(port, "worker")) for lane in ("io", "cpu")]

    done = [
        await enqueue(producer, registry, "add", {"left": 1, "right": 2}),
        await enqueue(producer, registry, "compute", {"seconds": 0.0}),
    ]
    for run in done:
        (one,) = await outcomes(producer, run)
        assert one.success

    failing = await enqueue(producer, registry, "fail", {"message": "no"})
    (failed,) = await outcomes(producer, failing)
    assert failed.try_ == 3
    assert [one.id async for one in dead.letters(producer, await dead.ids(producer))] == [failed.id]
    assert await Store(producer).revive([failed.id]) == []

    held = await enqueue(producer, registry, "wait_for_go", {"directory": str(notes)})
    await wait_noted(notes, "*")
    assert await cancel_jobs(producer, [runs.job_id(held, 0)]) == (0, 1)
    (cancelled,) = await outcomes(producer, held)
    assert cancelled.cancelled

    later = [NewJob("later-0000000", wire.dumps({}), 3_600_000)]
    await Store(producer).enqueue_many(keys.IO_QUEUE, later)
    assert await cancel_jobs(producer, ["later-0000000"]) == (1, 0)
    assert {beat.pid for beat in await fleet.workers(producer)} == {one.pid for one in workers}
    assert (await queues.look(producer, "io")).counters["done"] == 1
    # Those two may be of one millisecond.
    assert {one.name for one in (await runs.latest(producer, 10))[-2:]} == set(done)
    for one in workers:
        one.send(signal.SIGTERM)
        assert await one.wait() == 0
        assert "NOPERM" not in one.log
        assert "broker away" not in one.log
        assert PASSWORDS["worker"] not in one.log
    missing = await dead.drop(producer, await dead.ids(producer))
    assert missing == []


async def test_a_job_may_enqueue_others_in_arqs_way(log_in: Connect) -> None:
    pool = log_in("worker").connection_pool
    arq = ArqRedis(pool, wire.dumps, wire.loads, keys.IO_QUEUE)

    job = await arq.enqueue_job("add", 1, 2)

    assert job is not None
    assert (await job.info()) is not None


async def test_every_script_of_a_worker_is_allowed(log_in: Connect) -> None:
    producer, store = Store(log_in("producer")), Store(log_in("worker"))
    await producer.enqueue_many(keys.IO_QUEUE, [NewJob(one, b"payload") for one in "abc"])
    claim = await store.claim(keys.IO_QUEUE, "w:1", 3, 60_000)
    a, b, c = ((one.id, one.fence) for one in claim.jobs)

    assert await store.renew(keys.IO_QUEUE, [a, b, c], 60_000) == []
    assert await store.release(keys.IO_QUEUE, [(*a, 1)]) == []
    assert await store.retry(keys.IO_QUEUE, [(*b, 0)]) == []


async def test_a_dashboard_sees_the_fleet_the_queues_and_the_runs(
    log_in: Connect, registry: Registry
) -> None:
    run = await enqueue(log_in("producer"), registry, "add", {"left": 1, "right": 2})
    board = log_in("dashboard")

    assert await fleet.workers(board) == []
    assert (await queues.look(board, "io")).waiting == 1
    assert [one.name for one in await runs.latest(board, 10)] == [run]
    assert (await runs.read(board, run))[1] == []
    assert await dead.count(board) == 0


async def test_a_producer_sees_which_server_it_measures_and_how_busy_that_is(
    log_in: Connect,
) -> None:
    producer = log_in("producer")

    assert "used_cpu_user" in await producer.info("cpu")
    assert await broker_of(producer) != "Redis ?"


# -- What each cannot --

ADMINISTRATION = (
    ("CONFIG", "GET", "dir"), ("CONFIG", "SET", "dir", "/tmp"), ("FLUSHALL",), ("FLUSHDB",),
    ("KEYS", "*"), ("SCAN", "0"), ("RANDOMKEY",), ("DBSIZE",), ("DEBUG", "SLEEP", "0"),
    ("SHUTDOWN", "NOSAVE"), ("ACL", "LIST"), ("ACL", "SETUSER", "x"), ("MONITOR",),
    ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"),
    ("REPLICAOF", "NO", "ONE"), ("SAVE",), ("BGREWRITEAOF",), ("MODULE", "LIST"), ("INFO",),
    ("SWAPDB", "0", "1"), ("SLOWLOG", "GET"), ("LATENCY", "LATEST"), ("MIGRATE", "h", "1", "k",
    "0", "1"), ("SORT", "arq:queue"), ("CLUSTER", "INFO"), ("FAILOVER",),
    ("EVAL", "return redis.call('FLUSHALL')", "0"), ("EVAL", "return redis.call('KEYS', '*')", "0"),
)  # fmt: skip


@pytest.mark.parametrize("role", acl.RULES)
async def test_no_role_administers_the_server_or_lists_its_keys(log_in: Connect, role: str) -> None:
    client = log_in(role)

    allowed = []
    for command in ADMINISTRATION:
        if (role, command) == ("producer", ("INFO",)):
            continue
        try:
            await client.execute_command(*command)
        except Exception as error:
            if "no permissions" not in str(error) and "ACL" not in str(error):
                allowed.append((command, str(error)))
        else:
            allowed.append((command, ""))

    assert allowed == []


@pytest.mark.parametrize("role", acl.RULES)
async def test_no_command_that_the_server_itself_calls_dangerous_is_allowed(
    log_in: Connect, role: str
) -> None:
    owner = log_in("default")
    listed: set[bytes] = set()
    for category in ("admin", "dangerous"):
        listed |= set(await owner.execute_command("COMMAND LIST", "FILTERBY", "ACLCAT", category))
    names = sorted(one.decode() for one in listed)
    assert {"config|set", "flushall", "keys", "debug", "acl|setuser", "client|kill"} <= set(names)

    allowed = []
    for name in names:
        told = b"wrong number of arguments"
        words = name.split("|")
        while b"number of arguments" in told and len(words) < 20:
            try:
                told = await owner.execute_command("ACL", "DRYRUN", role, *words)
            except Exception as error:
                told = str(error).encode()
            words.append("1")
        if b"no permissions to run the" not in told:
            allowed.append((name, told))

    assert [name for name, _ in allowed] == (["info"] if role == "producer" else [])


@pytest.mark.parametrize("role", acl.RULES)
async def test_no_role_is_told_of_the_keys_that_others_change(
    port: int, log_in: Connect, role: str
) -> None:
    """A client that tracks everything is sent the names of keys that it may not even read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"HELLO 3 AUTH {role} {PASSWORDS[role]}\r\n".encode())
    await reader.readuntil(b"mode")
    writer.write(b"CLIENT TRACKING ON BCAST\r\nPING\r\n")
    await reader.readuntil(b"+PONG\r\n")

    await log_in("default").set("somebody:else", 1)
    writer.write(b"PING\r\n")
    told = await reader.readuntil(b"+PONG\r\n")
    writer.close()

    assert b"somebody:else" not in told


FORBIDDEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "producer": (
        ("SET", "arq:in-progress:a", "w"), ("DEL", "arq:in-progress:a"),
        ("SET", "twolane:worker:w", "x"), ("ZADD", "twolane:workers", "1", "w"),
        ("SET", "somebody:else", "1"), ("GET", "somebody:else"),
        ("SUBSCRIBE", "twolane:wake:arq:queue"), ("PUBLISH", "another", "x"),
        ("EVAL", "return redis.call('SET', 'arq:in-progress:a', 'w')", "0"),
    ),
    "worker": (
        ("SET", "twolane:none:x", "x"), ("GET", "somebody:else"), ("PUBLISH", "another", "x"),
        ("EVAL", "return redis.call('DEL', 'somebody:else')", "0"),
    ),
    "dashboard": (
        ("SET", "twolane:worker:w", "x"), ("ZADD", "arq:queue", "1", "a"), ("DEL", "arq:queue"),
        ("DEL", "twolane:dead"), ("PUBLISH", "twolane:wake:arq:queue", "work"),
        ("GET", "arq:job:a"), ("EVAL", "return 1", "0"), ("XADD", "twolane:run:r", "*", "o", "x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "command"),
    [(role, one) for role, commands in FORBIDDEN.items() for one in commands],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:40],
)
async def test_a_role_cannot_touch_what_it_need_not(
    log_in: Connect, role: str, command: tuple[str, ...]
) -> None:
    with pytest.raises(Exception, match=r"(?i)no permissions|NOPERM|ACL"):
        await log_in(role).execute_command(*command)


async def test_a_producer_cannot_settle_what_a_worker_holds(log_in: Connect) -> None:
    producer, worker = Store(log_in("producer")), Store(log_in("worker"))
    await producer.enqueue_many(keys.IO_QUEUE, [NewJob("a", b"payload")])
    (held,) = (await worker.claim(keys.IO_QUEUE, "w:1", 1, 60_000)).jobs

    with pytest.raises(Exception, match=r"(?i)no permissions|ACL"):
        await producer.release(keys.IO_QUEUE, [("a", held.fence, 1)])
    await producer.enqueue_many(keys.IO_QUEUE, [NewJob("b", b"payload")])
    with pytest.raises(Exception, match=r"(?i)no permissions|ACL"):
        await producer.claim(keys.IO_QUEUE, "p:1", 1, 60_000)
    assert await producer.cancel(keys.IO_QUEUE, [Cancellation("a", b"x")]) == (0, 1)


async def test_without_a_name_nobody_gets_in(port: int) -> None:
    client = connect(f"redis://127.0.0.1:{port}/0")

    with pytest.raises(Exception, match=r"(?i)auth"):
        await client.ping()
    await client.aclose()


# -- The file --


def test_the_file_has_digests_and_no_password() -> None:
    text = acl.file(PASSWORDS)

    assert not any(one in text for one in PASSWORDS.values())
    assert [line.split()[1] for line in text.splitlines()] == list(PASSWORDS)
    assert all(line.split()[4].startswith("#") for line in text.splitlines())


def test_without_an_owner_the_default_user_is_off() -> None:
    assert acl.file({"worker": "x"}).splitlines()[0] == "user default reset off"


def run_acl(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "twolane.acl", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_command_prints_a_file_of_password_files(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("worker-3\n")

    assert run_acl(f"worker={tmp_path}/w") == (0, acl.file({"worker": "worker-3"}), "")


@pytest.mark.parametrize("arguments", [[], ["worker"], ["nobody=x"]])
def test_the_command_says_how_it_is_used(arguments: list[str]) -> None:
    code, out, err = run_acl(*arguments)

    assert (code, out) == (1, "")
    assert err.startswith("usage: python -m twolane.acl ROLE=PASSWORDFILE")


def test_the_command_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert run_acl(f"worker={tmp_path}/w")[2] == f"{tmp_path}/w: No such file or directory\n"
