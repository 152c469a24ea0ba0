"""Every operation on the queues, one Lua script each.

Each method of :class:`Store` is one round trip (one a thousand jobs), atomic in the server, and on
the server's clock. :mod:`twolane.runs`, :mod:`twolane.dead` and :mod:`twolane.queues`
read what the scripts wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, Final, Literal, NamedTuple, TypeVar

import hiredis
import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from twolane import keys

# One script call for 1,000 jobs keeps the server's other clients waiting for about 5 ms.
ENQUEUE_BATCH: Final = 1_000
SETTLE_BATCH: Final = 500
# Lua's unpack takes at most about 8,000 values; a claim needs two a job.
MAX_CLAIM: Final = 1_000
RUN_TTL_SECONDS: Final = 7 * 24 * 3600
CANCELLED_KEEP_MS: Final = 3_600_000

Kind = Literal["done", "failed", "cancelled"]
T = TypeVar("T")


class NewJob(NamedTuple):
    """A job to enqueue. ``delay_ms`` postpones it; ``ttl_ms`` 0 keeps its payload until it ran."""

    id: str
    payload: bytes
    delay_ms: int = 0
    ttl_ms: int = 0


class ClaimedJob(msgspec.Struct, gc=False):
    """A job under lease. ``payload`` is None where it expired; ``due_ms`` is the server's clock."""

    id: str
    payload: bytes | None
    try_: int
    due_ms: int
    abort: bool
    fence: bytes


class Claim(NamedTuple):
    """An answer to a claim. ``next_due_ms`` is None where no later job is known."""

    now_ms: int
    next_due_ms: int | None
    jobs: list[ClaimedJob]


class Settlement(NamedTuple):
    """A job's final outcome. ``keep_ms`` -1 keeps the result for good, 0 keeps none.

    ``entry`` is what goes on the run's stream; empty for the result itself.
    """

    id: str
    fence: bytes
    result: bytes
    keep_ms: int
    kind: Kind
    function: str
    run: str = ""
    entry: bytes = b""


class Cancellation(NamedTuple):
    """A job to cancel, with the result to record in case that it has not started."""

    id: str
    result: bytes
    run: str = ""


class Script:
    """A Lua script by its digest; sent whole where the server does not have it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = resources.files("twolane").joinpath("lua", f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: Redis, keys_: Sequence[str], args: Sequence[Any]) -> Any:
        rest = (len(keys_), *keys_, *args)
        try:
            return await send(client, ("EVALSHA", self.sha, *rest))
        except NoScriptError:
            return await send(client, ("EVAL", self.text, *rest))


async def send(client: Redis, command: tuple[Any, ...]) -> Any:
    """Send one command and read its reply, as ``client.execute_command`` does, but packed in C.

    redis-py packs in Python, which for a batch of jobs takes longer than all else that it does.
    """
    pool = client.connection_pool
    connection = await pool.get_connection()
    try:
        try:
            packed = hiredis.pack_command(command)
        except UnicodeEncodeError:  # an id that is not UTF-8
            raw = (keys.raw_id(one) if isinstance(one, str) else one for one in command)
            packed = hiredis.pack_command(tuple(raw))  # type: ignore[arg-type]
        await connection.send_packed_command([packed])
        return await connection.read_response()
    finally:
        await pool.release(connection)


class Store:
    """The queues of one broker.

    ``client`` is a :class:`redis.asyncio.Redis` without ``decode_responses``. Every method raises
    the client's own ``ConnectionError`` or ``TimeoutError`` where the server is away; what then
    happened is unknown, and each operation may be sent again.
    """

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._enqueue = Script("enqueue")
        self._claim = Script("claim")
        self._renew = Script("renew")
        self._acknowledge = Script("acknowledge")
        self._retry = Script("retry")
        self._release = Script("release")
        self._cancel = Script("cancel")
        self._revive = Script("revive")

    async def enqueue_many(self, queue: str, jobs: Iterable[NewJob], run: str = "") -> list[str]:
        """Put jobs into a queue, 1,000 a call; returns the ids refused because they are known.

        An id is known while its job waits or runs, and while its result is kept. The order of
        jobs that are due in the same millisecond is that of their ids.
        """
        head = (run, RUN_TTL_SECONDS, keys.wake(queue))
        where = (queue, keys.counters(queue), keys.run(run) if run else queue)
        refused: list[str] = []
        for batch in batches(jobs, ENQUEUE_BATCH):
            args: list[Any] = list(head)
            for one in batch:
                args += one[0], one[1], one[2], one[3]
            refused += texts(await self._enqueue(self.client, where, args))
        return refused

    async def claim(self, queue: str, fence: str, count: int, lease_ms: int) -> Claim:
        """Take up to ``count`` due jobs (at most 1,000) under a lease of ``lease_ms``.

        ``fence`` must be new with each call: it tells this attempt from every other one.
        """
        reply = await self._claim(
            self.client, (queue, keys.ABORTS), (fence, lease_ms, min(count, MAX_CLAIM))
        )
        token = fence.encode()
        jobs = [
            ClaimedJob(
                keys.id_of(reply[i]), reply[i + 1], reply[i + 2], _time_ms(reply[i + 3]),
                reply[i + 4] == b"1", token,
            )
            for i in range(2, len(reply), 5)
        ]  # fmt: skip
        return Claim(reply[0], reply[1] if reply[1] >= 0 else None, jobs)

    async def acknowledge(self, queue: str, settled: Iterable[Settlement]) -> list[str]:
        """Record final outcomes; returns the ids that were no longer the caller's (fenced)."""
        fenced: list[str] = []
        where = (queue, keys.counters(queue), keys.ABORTS, keys.DEAD)
        for batch in batches(settled, SETTLE_BATCH):
            args: list[Any] = [RUN_TTL_SECONDS]
            for s in batch:
                args += s.id, s.fence, s.result, s.keep_ms, s.run, s.entry, s.kind, s.function
            fenced += texts(await self._acknowledge(self.client, where, args))
        return fenced

    async def renew(
        self, queue: str, held: Iterable[tuple[str, bytes]], lease_ms: int
    ) -> list[str]:
        """Extend leases (pairs of id and fence); returns the ids that were lost."""
        lost: list[str] = []
        for batch in batches(held, SETTLE_BATCH):
            lost += texts(await self._renew(self.client, (queue,), renewal(batch, lease_ms)))
        return lost

    async def retry(self, queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> list[str]:
        """Give back for another try: id, fence and delay in ms of each; returns the fenced ids."""
        fenced: list[str] = []
        where = (queue, keys.counters(queue), keys.ABORTS)
        for batch in batches(jobs, SETTLE_BATCH):
            args = [keys.wake(queue), *(value for one in batch for value in one)]
            fenced += texts(await self._retry(self.client, where, args))
        return fenced

    async def release(self, queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> list[str]:
        """Give back as if never claimed: id, fence and due time in ms of each; the fenced ids."""
        fenced: list[str] = []
        where = (queue, keys.counters(queue))
        for batch in batches(jobs, SETTLE_BATCH):
            args = [keys.wake(queue), *(value for one in batch for value in one)]
            fenced += texts(await self._release(self.client, where, args))
        return fenced

    async def cancel(self, queue: str, jobs: Iterable[Cancellation]) -> tuple[int, int]:
        """Cancel jobs; returns how many were settled and how many were put to their workers."""
        settled = asked = 0
        where = (queue, keys.counters(queue), keys.ABORTS)
        for batch in batches(jobs, SETTLE_BATCH):
            args: list[Any] = [RUN_TTL_SECONDS, keys.wake(queue)]
            for one in batch:
                args += one.id, one.result, CANCELLED_KEEP_MS, one.run
            reply = await self._cancel(self.client, where, args)
            settled, asked = settled + reply[0], asked + reply[1]
        return settled, asked

    async def revive(self, ids: Iterable[str]) -> list[str]:
        """Put dead letters back into their queues; returns the ids that could not be."""
        refused: list[str] = []
        for batch in batches(ids, SETTLE_BATCH):
            refused += texts(await self._revive(self.client, (keys.DEAD,), (keys.wake(""), *batch)))
        return refused


def renewal(held: Iterable[tuple[str, bytes]], lease_ms: int) -> list[Any]:
    """The arguments of ``renew.lua``, for the renewal thread's own blocking client too."""
    return [lease_ms, *(value for one, fence in held for value in (keys.raw_id(one), fence))]


def texts(ids: Iterable[bytes]) -> list[str]:
    return [keys.id_of(one) for one in ids]


def _time_ms(score: bytes) -> int:
    """A place in the queue as a time; any client can put anything there, infinities too."""
    value = float(score)
    return int(value) if -(2**53) < value < 2**53 else 0


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive lists of ``size`` items, the last one shorter; none for no items."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
