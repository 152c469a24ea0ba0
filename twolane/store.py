"""Every operation on the queues, one Lua script each.

Each method of :class:`Store` is one round trip (one for 500 jobs or 16 MiB), atomic in the server,
and on the server's clock. :mod:`twolane.runs`, :mod:`twolane.dead` and :mod:`twolane.queues`
read what the scripts wrote. What is said is in :mod:`twolane.messages`, how in
:mod:`twolane.scripts`; who speaks to the store imports both from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from twolane import keys, scripts
from twolane.channel import Channel, Command, Reply, pack
from twolane.messages import (
    CALL_BYTES,
    Cancellation,
    Claim,
    ClaimedJob,
    Exchanged,
    Kind,
    NewJob,
    Opened,
    Report,
    Request,
    Settlement,
    weight_of,
)
from twolane.patience import patiently
from twolane.scripts import (
    ACKNOWLEDGE,
    CANCEL,
    CANCELLED_KEEP_MS,
    CLAIM,
    ENQUEUE,
    ENQUEUE_BATCH,
    MAX_CLAIM,
    RELEASE,
    RENEW,
    RETRY,
    REVIVE,
    RUN_TTL_SECONDS,
    SETTLE_BATCH,
    Arguments,
    RunOrder,
    Script,
    batches,
    renewal,
    texts,
)

__all__ = [
    "ACKNOWLEDGE",
    "CANCEL",
    "CANCELLED_KEEP_MS",
    "CLAIM",
    "ENQUEUE",
    "ENQUEUE_BATCH",
    "MAX_CLAIM",
    "RELEASE",
    "RENEW",
    "RETRY",
    "REVIVE",
    "RUN_TTL_SECONDS",
    "SETTLE_BATCH",
    "Cancellation",
    "Claim",
    "ClaimedJob",
    "Exchanged",
    "Kind",
    "NewJob",
    "Opened",
    "Report",
    "Request",
    "Script",
    "Settlement",
    "Store",
    "batches",
    "renewal",
    "texts",
]

WEIGHT: Final = attrgetter("weight")
# Arbitrary: how long a run that is given up half-way may keep its caller, to be sealed.
GIVING_UP_SECONDS: Final = 2.0
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
        """Put jobs into a queue, up to 500 a call; returns the ids refused because they are known.

        An id is known while its job waits or runs, and while its result is kept; a job of which
        the place in the queue was deleted gets one again. The order of jobs that are due in the
        same millisecond is that of their ids.
        """
        refused: list[str] = []
        for batch in batches(jobs, ENQUEUE_BATCH, WEIGHT):
            refused += texts((await self._call(ENQUEUE, *scripts.enqueuing(queue, batch, run)))[1:])
        return refused

    async def enqueue_run(
        self, run: str, kind: str, jobs: Mapping[str, Iterable[NewJob]]
    ) -> Opened | None:
        """Open a run, put its jobs into their queues and seal it: one call for up to 500 jobs.

        Returns None where a run of that name exists; nothing was done then. The next jobs are
        made ready while the server takes the last ones. An outage is waited out for a minute at
        each call, which is sent again then and done once. Given up half-way, by a cancellation or
        an error, it seals the run with what was enqueued by then, or leaves it open where the
        server does not take that within 2 s.
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
                given = scripts.enqueuing(queue, batch, run, order, kind, f"{maker}:{next(calls)}")
                if order == "both":
                    accepted = await put(order, batch, given)
                    break
                if under_way is not None:
                    accepted += await asyncio.shield(under_way)
                    if created_ms < 0:
                        return None
                under_way = asyncio.create_task(put(order, batch, given))
                await asyncio.sleep(0)  # it is on its way before the next ones are made
            if under_way is not None:
                accepted += await asyncio.shield(under_way)
        except (Exception, asyncio.CancelledError):  # whatever it is, nothing more comes
            with contextlib.suppress(RedisError, OSError):
                async with asyncio.timeout(GIVING_UP_SECONDS):
                    if under_way is not None:
                        # It may be the one that opens the run.
                        await asyncio.gather(under_way, return_exceptions=True)
                    if created_ms > 0:
                        await self.seal_run(run)
            raise
        finally:
            if under_way is not None:
                under_way.cancel()
        return Opened(created_ms, accepted) if created_ms >= 0 else None

    async def open_run(self, run: str, kind: str) -> int | None:
        """Make a run without jobs; returns as :meth:`enqueue_run` does."""
        call = secrets.token_hex(8)
        reply = await self._patiently(scripts.enqueuing(keys.IO_QUEUE, (), run, "open", kind, call))
        return None if reply[0] == -1 else int(reply[0])

    async def seal_run(self, run: str) -> None:
        """Say that nothing more will be enqueued for a run; one that is gone stays gone."""
        await self._patiently(scripts.enqueuing(keys.IO_QUEUE, (), run, "seal"))

    async def _patiently(self, given: Arguments) -> Reply:
        """Enqueue by a call that may be sent again."""
        return await patiently(lambda: self._call(ENQUEUE, *given), "enqueueing")

    async def claim(self, queue: str, fence: str, count: int, lease_ms: int) -> Claim:
        """Take up to ``count`` due jobs (at most 1,000) under a lease of ``lease_ms``.

        ``fence`` must be new with each call: it tells this attempt from every other one.
        """
        request = Request(fence, count, lease_ms)
        return scripts.claim_of(await self._call(CLAIM, *scripts.claiming(queue, request)), request)

    async def acknowledge(self, queue: str, settled: Iterable[Settlement]) -> list[str]:
        """Record final outcomes; returns the ids that were no longer the caller's (fenced)."""
        fenced: list[str] = []
        for batch in batches(settled, SETTLE_BATCH, WEIGHT):
            fenced += texts(await self._call(ACKNOWLEDGE, *scripts.settling(queue, batch)))
        return fenced

    async def exchange(self, queue: str, report: Report, request: Request | None) -> Exchanged:
        """Tell what has ended and take what is to do, in one round trip.

        The same as :meth:`acknowledge`, :meth:`retry`, :meth:`release` and :meth:`claim`; each is
        atomic, all of them together are not, nor is their order certain.
        """
        orders: list[Order] = []
        told: list[Report] = []
        for settled in _calls(report.settled):
            told.append(Report(settled=settled))
            orders.append((ACKNOWLEDGE, *scripts.settling(queue, settled)))
        for retries in batches(report.retries, SETTLE_BATCH):
            told.append(Report(retries=retries))
            orders.append((RETRY, *scripts.retrying(queue, retries)))
        for releases in batches(report.releases, SETTLE_BATCH):
            told.append(Report(releases=releases))
            orders.append((RELEASE, *scripts.releasing(queue, releases)))
        if request is not None:
            orders.append((CLAIM, *scripts.claiming(queue, request)))
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
                claim = scripts.claim_of(replies[-1], request)
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
            fenced += texts(await self._call(RETRY, *scripts.retrying(queue, batch)))
        return fenced

    async def release(self, queue: str, jobs: Iterable[tuple[str, bytes, int]]) -> list[str]:
        """Give back as if never claimed: id, fence and due time in ms of each; the fenced ids."""
        fenced: list[str] = []
        for batch in batches(jobs, SETTLE_BATCH):
            fenced += texts(await self._call(RELEASE, *scripts.releasing(queue, batch)))
        return fenced

    async def cancel(self, queue: str, jobs: Iterable[Cancellation]) -> tuple[int, int]:
        """Cancel jobs; returns how many were settled and how many were put to their workers."""
        settled = asked = 0
        for batch in batches(jobs, SETTLE_BATCH):
            reply = await self._call(CANCEL, *scripts.cancelling(queue, batch))
            settled, asked = settled + reply[0], asked + reply[1]
        return settled, asked

    async def revive(self, ids: Iterable[str]) -> list[str]:
        """Put dead letters back into their queues; returns the ids that could not be."""
        refused: list[str] = []
        for batch in batches(ids, SETTLE_BATCH):
            refused += texts(await self._call(REVIVE, *scripts.reviving(batch)))
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


def _calls(settled: list[Settlement]) -> Iterable[list[Settlement]]:
    """What one call carries each."""
    if 0 < len(settled) <= SETTLE_BATCH and weight_of(settled) <= CALL_BYTES:
        return [settled]
    return batches(settled, SETTLE_BATCH, WEIGHT)


def _in_order(
    jobs: Mapping[str, Iterable[NewJob]],
) -> Iterator[tuple[RunOrder, str, list[NewJob]]]:
    """The calls that a run takes: the first one opens it, the last one seals it."""
    calls = (
        (queue, batch) for queue in jobs for batch in batches(jobs[queue], ENQUEUE_BATCH, WEIGHT)
    )
    queue, batch = next(calls, (keys.IO_QUEUE, []))
    order: RunOrder = "open"
    for following in calls:
        yield order, queue, batch
        (queue, batch), order = following, ""
    yield "both" if order == "open" else "seal", queue, batch
