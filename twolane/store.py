"""Every operation on the queues, one Lua script each.

Each method of :class:`Store` is one round trip (one for 500 jobs), atomic in the server, and on
the server's clock. :mod:`twolane.runs`, :mod:`twolane.dead` and :mod:`twolane.queues`
read what the scripts wrote.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from twolane import keys
from twolane.channel import Channel, Command, Reply, pack
from twolane.patience import patiently

# One script call for 500 jobs takes the server 2 ms, and fits a socket's buffer whole.
ENQUEUE_BATCH: Final = 500
SETTLE_BATCH: Final = 500
# Lua's unpack takes at most about 8,000 values; a claim needs two a job.
MAX_CLAIM: Final = 1_000
RUN_TTL_SECONDS: Final = 7 * 24 * 3600
CANCELLED_KEEP_MS: Final = 3_600_000

Kind = Literal["done", "failed", "cancelled"]
RunOrder = Literal["", "open", "seal", "both"]  # what an enqueueing does with its run besides
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
    """A job's final outcome, in the order of the script's arguments.

    ``keep_ms`` -1 keeps the result for good, 0 keeps none. ``run`` is empty for none. ``entry`` is
    what goes on the run's stream; empty for the result itself.
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


class Opened(NamedTuple):
    """A run that was made: when, on the server's clock, and how many of its jobs were not known."""

    created_ms: int
    accepted: int


@dataclass(slots=True)
class Report:
    """What a worker has to tell: outcomes, and what it gives back.

    ``retries`` have id, fence and delay in ms; ``releases`` id, fence and the time they were due.
    """

    settled: list[Settlement] = field(default_factory=list)
    retries: list[tuple[str, bytes, int]] = field(default_factory=list)
    releases: list[tuple[str, bytes, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.settled or self.retries or self.releases)

    def ids(self) -> list[str]:
        return [one[0] for kind in (self.settled, self.retries, self.releases) for one in kind]

    def take(self, limit: int) -> Report:
        """The first ``limit`` of each kind, which are taken out of this one."""
        taken = Report(self.settled[:limit], self.retries[:limit], self.releases[:limit])
        del self.settled[:limit], self.retries[:limit], self.releases[:limit]
        return taken

    def put_back(self, taken: Report) -> None:
        self.settled[:0], self.retries[:0] = taken.settled, taken.retries
        self.releases[:0] = taken.releases


class Request(NamedTuple):
    """What a worker asks for: up to ``limit`` jobs under a lease. ``fence`` is new each time.

    Of ``workers`` that share the queue each gets its share of what is due, where that is less.
    """

    fence: str
    limit: int
    lease_ms: int
    workers: int = 1
    asked_at: float = float("inf")  # on the monotonic clock, s


class Exchanged(NamedTuple):
    """An answer to an exchange.

    ``fenced`` are the ids that were no longer the caller's. ``untold`` is what the server refused
    to record, with its ``error``; the claim stands all the same.
    """

    claim: Claim | None
    fenced: list[str]
    untold: Report
    error: RedisError | None


def _read(name: str) -> str:
    return resources.files("twolane").joinpath("lua", f"{name}.lua").read_text("utf-8")


class Script:
    """A Lua script by its digest; sent whole where the server does not have it.

    ``preludes`` are files with functions that it uses.
    """

    def __init__(self, name: str, *preludes: str) -> None:
        self.name = name
        self.text = "".join(_read(one) for one in (*preludes, name))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, keys_: Sequence[str], args: Sequence[Any]) -> Command:
        return ("EVALSHA", self.sha, len(keys_), *keys_, *args)

    def in_full(self, keys_: Sequence[str], args: Sequence[Any]) -> Command:
        return ("EVAL", self.text, len(keys_), *keys_, *args)


ENQUEUE: Final = Script("enqueue")
CLAIM: Final = Script("claim", "set_many")
RENEW: Final = Script("renew")
ACKNOWLEDGE: Final = Script("acknowledge", "set_many")
RETRY: Final = Script("retry")
RELEASE: Final = Script("release")
CANCEL: Final = Script("cancel")
REVIVE: Final = Script("revive")

Arguments = tuple[Sequence[str], Sequence[Any]]
Order = tuple[Script, Sequence[str], Sequence[Any]]


async def send(client: Redis, command: Command) -> Reply:
    """Send one command and read its reply, as ``client.execute_command`` does, but packed in C."""
    pool = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command([pack(command)])
        return await connection.read_response()
    finally:
        await pool.release(connection)


class Store:
    """The queues of one broker.

    ``client`` is a :class:`redis.asyncio.Redis` without ``decode_responses``. Every method raises
    the client's own ``ConnectionError`` or ``TimeoutError`` where the server is away; what then
    happened is unknown, and each operation may be sent again. With a ``channel`` everything goes
    over that, otherwise over the client's connections.
    """

    def __init__(self, client: Redis, channel: Channel | None = None) -> None:
        self.client = client
        self._channel = channel

    async def enqueue_many(self, queue: str, jobs: Iterable[NewJob], run: str = "") -> list[str]:
        """Put jobs into a queue, 500 a call; returns the ids refused because they are known.

        An id is known while its job waits or runs, and while its result is kept. The order of
        jobs that are due in the same millisecond is that of their ids.
        """
        refused: list[str] = []
        for batch in batches(jobs, ENQUEUE_BATCH):
            refused += texts((await self._call(ENQUEUE, *_enqueuing(queue, batch, run)))[1:])
        return refused

    async def enqueue_run(
        self, run: str, kind: str, jobs: Mapping[str, Iterable[NewJob]]
    ) -> Opened | None:
        """Open a run, put its jobs into their queues and seal it: one call for up to 500 jobs.

        Returns None where a run of that name exists; nothing was done then. The next jobs are
        made ready while the server takes the last ones. An outage is waited out for a minute at
        each call, which is sent again then and done once. Given up half-way, by a cancellation or
        an error, it leaves the run open, with what was enqueued by then.
        """
        created_ms = accepted = 0
        maker, calls = secrets.token_hex(8), itertools.count()
        under_way: asyncio.Task[int] | None = None

        async def put(order: RunOrder, batch: list[NewJob], given: Arguments) -> int:
            nonlocal created_ms
            at_ms, *refused = await self._patiently(given)
            if order in ("open", "both"):
                created_ms = at_ms
            return len(batch) - len(refused)

        try:
            for order, queue, batch in _in_order(jobs):
                given = _enqueuing(queue, batch, run, order, kind, f"{maker}:{next(calls)}")
                if order == "both":
                    accepted = await put(order, batch, given)
                    break
                if under_way is not None:
                    accepted += await under_way
                    if created_ms < 0:
                        return None
                under_way = asyncio.create_task(put(order, batch, given))
                await asyncio.sleep(0)  # it is on its way before the next ones are made
            if under_way is not None:
                accepted += await under_way
        finally:
            if under_way is not None:
                under_way.cancel()
        return Opened(created_ms, accepted) if created_ms >= 0 else None

    async def open_run(self, run: str, kind: str) -> int | None:
        """Make a run without jobs; returns as :meth:`enqueue_run` does."""
        call = secrets.token_hex(8)
        reply = await self._patiently(_enqueuing(keys.IO_QUEUE, (), run, "open", kind, call))
        return None if reply[0] == -1 else int(reply[0])

    async def seal_run(self, run: str) -> None:
        """Say that nothing more will be enqueued for a run; one that is gone stays gone."""
        await self._patiently(_enqueuing(keys.IO_QUEUE, (), run, "seal"))

    async def _patiently(self, given: Arguments) -> Reply:
        """Enqueue by a call that may be sent again."""
        return await patiently(lambda: self._call(ENQUEUE, *given), "enqueueing")

    async def claim(self, queue: str, fence: str, count: int, lease_ms: int) -> Claim:
        """Take up to ``count`` due jobs (at most 1,000) under a lease of ``lease_ms``.

        ``fence`` must be new with each call: it tells this attempt from every other one.
        """
        request = Request(fence, count, lease_ms)
        return _claim_of(await self._call(CLAIM, *_claiming(queue, request)), request)

    async def acknowledge(self, queue: str, settled: Iterable[Settlement]) -> list[str]:
        """Record final outcomes; returns the ids that were no longer the caller's (fenced)."""
        fenced: list[str] = []
        for batch in batches(settled, SETTLE_BATCH):
            fenced += texts(await self._call(ACKNOWLEDGE, *_settling(queue, batch)))
        return fenced

    async def exchange(self, queue: str, report: Report, request: Request | None) -> Exchanged:
        """Tell what has ended and take what is to do, in one round trip.

        The same as :meth:`acknowledge`, :meth:`retry`, :meth:`release` and :meth:`claim`; each is
        atomic, all of them together are not, nor is their order certain.
        """
        orders: list[Order] = []
        told: list[Report] = []
        for settled in batches(report.settled, SETTLE_BATCH):
            told.append(Report(settled=settled))
            orders.append((ACKNOWLEDGE, *_settling(queue, settled)))
        for retries in batches(report.retries, SETTLE_BATCH):
            told.append(Report(retries=retries))
            orders.append((RETRY, *_retrying(queue, retries)))
        for releases in batches(report.releases, SETTLE_BATCH):
            told.append(Report(releases=releases))
            orders.append((RELEASE, *_releasing(queue, releases)))
        if request is not None:
            orders.append((CLAIM, *_claiming(queue, request)))
        replies = await self._send(orders)
        untold, error, claim = Report(), None, None
        fenced: list[str] = []
        for part, reply in zip(told, replies, strict=False):
            if isinstance(reply, RedisError):
                error = reply
                untold.put_back(part)
            else:
                fenced += texts(reply)
        if request is not None:
            if isinstance(replies[-1], RedisError):
                error = replies[-1]
            else:
                claim = _claim_of(replies[-1], request)
        return Exchanged(claim, fenced, untold, error)

    async def renew(
        self, queue: str, held: Iterable[tuple[str, bytes]], lease_ms: int
    ) -> list[str]:
        """Extend leases (pairs of id and fence); returns the ids that were lost."""
        lost: list[str] = []
        for batch in batches(held, SETTLE_BATCH):
            lost += texts(await self._call(RENEW, (queue,), renewal(batch, lease_ms)))
        return lost

    async def retry(self, queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> list[str]:
        """Give back for another try: id, fence and delay in ms of each; returns the fenced ids."""
        fenced: list[str] = []
        for batch in batches(jobs, SETTLE_BATCH):
            fenced += texts(await self._call(RETRY, *_retrying(queue, batch)))
        return fenced

    async def release(self, queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> list[str]:
        """Give back as if never claimed: id, fence and due time in ms of each; the fenced ids."""
        fenced: list[str] = []
        for batch in batches(jobs, SETTLE_BATCH):
            fenced += texts(await self._call(RELEASE, *_releasing(queue, batch)))
        return fenced

    async def cancel(self, queue: str, jobs: Iterable[Cancellation]) -> tuple[int, int]:
        """Cancel jobs; returns how many were settled and how many were put to their workers."""
        settled = asked = 0
        where = (queue, keys.counters(queue), keys.ABORTS)
        for batch in batches(jobs, SETTLE_BATCH):
            args: list[Any] = [RUN_TTL_SECONDS, keys.wake(queue)]
            for one in batch:
                args += one.id, one.result, CANCELLED_KEEP_MS, one.run
            reply = await self._call(CANCEL, where, args)
            settled, asked = settled + reply[0], asked + reply[1]
        return settled, asked

    async def revive(self, ids: Iterable[str]) -> list[str]:
        """Put dead letters back into their queues; returns the ids that could not be."""
        refused: list[str] = []
        for batch in batches(ids, SETTLE_BATCH):
            args = (keys.wake(""), *batch)
            refused += texts(await self._call(REVIVE, (keys.DEAD,), args))
        return refused

    async def _call(self, script: Script, keys_: Sequence[str], args: Sequence[Any]) -> Reply:
        [reply] = await self._send([(script, keys_, args)])
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def _send(self, orders: list[Order]) -> list[Reply]:
        """Replies in order; an error that the server answered with stands in its place."""
        send = self._over_pool if self._channel is None else self._channel.send
        replies = await send([script.by_digest(keys_, args) for script, keys_, args in orders])
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                script, keys_, args = orders[index]
                [replies[index]] = await send([script.in_full(keys_, args)])
        return replies

    async def _over_pool(self, commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = []
        for command in commands:
            try:
                replies.append(await send(self.client, command))
            except ResponseError as error:
                replies.append(error)
        return replies


# What each script is given, keys and arguments.


def _in_order(
    jobs: Mapping[str, Iterable[NewJob]],
) -> Iterator[tuple[RunOrder, str, list[NewJob]]]:
    """The calls that a run takes: the first one opens it, the last one seals it."""
    calls = ((queue, batch) for queue in jobs for batch in batches(jobs[queue], ENQUEUE_BATCH))
    queue, batch = next(calls, (keys.IO_QUEUE, []))
    order: RunOrder = "open"
    for following in calls:
        yield order, queue, batch
        (queue, batch), order = following, ""
    yield "both" if order == "open" else "seal", queue, batch


def _enqueuing(
    queue: str,
    jobs: Iterable[NewJob],
    run: str,
    order: RunOrder = "",
    kind: str = "",
    call: str = "",
) -> Arguments:
    args: list[Any] = [run, RUN_TTL_SECONDS, keys.wake(queue), order, kind, call]
    for one in jobs:
        args += one
    return (queue, keys.counters(queue), keys.run(run) if run else queue, keys.RUNS), args


def _claiming(queue: str, request: Request) -> Arguments:
    limit = min(request.limit, MAX_CLAIM)
    return (queue, keys.ABORTS), (request.fence, request.lease_ms, limit, request.workers)


def _settling(queue: str, settled: Iterable[Settlement]) -> Arguments:
    args: list[Any] = [RUN_TTL_SECONDS]
    for s in settled:
        args += s
    return (queue, keys.counters(queue), keys.ABORTS, keys.DEAD), args


def _retrying(queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> Arguments:
    args = [keys.wake(queue), *(value for one in jobs for value in one)]
    return (queue, keys.counters(queue), keys.ABORTS), args


def _releasing(queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> Arguments:
    args = [keys.wake(queue), *(value for one in jobs for value in one)]
    return (queue, keys.counters(queue)), args


def _claim_of(reply: list[Any], request: Request) -> Claim:
    token = request.fence.encode()
    jobs = [
        ClaimedJob(
            keys.id_of(reply[i]), reply[i + 1], reply[i + 2], _time_ms(reply[i + 3]),
            reply[i + 4] == b"1", token,
        )
        for i in range(2, len(reply), 5)
    ]  # fmt: skip
    return Claim(reply[0], reply[1] if reply[1] >= 0 else None, jobs)


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
