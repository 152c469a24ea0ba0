"""A broker with one queue, and short words for what the tests of the store do with it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import hiredis
from redis.asyncio import Redis

from twolane import keys
from twolane.store import (
    Cancellation,
    Claim,
    ClaimedJob,
    Kind,
    NewJob,
    Settlement,
    Store,
)

QUEUE = keys.IO_QUEUE
LEASE_MS = 60_000
HOUR_MS = 3_600_000


class Calls:
    """A client that notes each script call on its way to the server."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.connection_pool = self
        self.made: list[list[bytes]] = []

    async def get_connection(self) -> Calls:
        self.connection = await self.client.connection_pool.get_connection()
        return self

    async def release(self, _: Calls) -> None:
        await self.client.connection_pool.release(self.connection)

    async def send_packed_command(self, packed: list[bytes]) -> None:
        reader = hiredis.Reader()
        reader.feed(b"".join(packed))
        command = reader.gets()
        if command[0] == b"EVALSHA":
            self.made.append(command[1:])
        await self.connection.send_packed_command(packed)

    async def read_response(self) -> Any:
        return await self.connection.read_response()


class Place:
    """A broker with one queue, and short words for what the tests do with it."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.calls = Calls(client)
        self.store = Store(cast(Redis, self.calls))
        self._fences = itertools.count(1)

    async def enqueue(self, *ids: str, run: str = "", delay_ms: int = 0) -> list[str]:
        jobs = [NewJob(one, f"payload of {one}".encode(), delay_ms) for one in ids]
        return await self.store.enqueue_many(QUEUE, jobs, run)

    async def claim(self, count: int = 10, lease_ms: int = LEASE_MS) -> Claim:
        return await self.store.claim(QUEUE, f"fence-{next(self._fences)}", count, lease_ms)

    async def running(self, *ids: str, run: str = "") -> list[ClaimedJob]:
        """Jobs that were enqueued and claimed."""
        await self.enqueue(*ids, run=run)
        claim = await self.claim(len(ids))
        assert sorted(one.id for one in claim.jobs) == sorted(ids)
        return claim.jobs

    async def settle(
        self,
        jobs: Iterable[ClaimedJob],
        kind: Kind = "done",
        *,
        keep_ms: int = HOUR_MS,
        run: str = "",
        entry: bytes = b"",
        result: bytes = b"result",
    ) -> list[str]:
        settled = [
            Settlement(one.id, one.fence, result, keep_ms, kind, "work", run, entry) for one in jobs
        ]
        return await self.store.acknowledge(QUEUE, settled)

    async def cancel(self, *ids: str, run: str = "") -> tuple[int, int]:
        return await self.store.cancel(QUEUE, [Cancellation(one, b"cancelled", run) for one in ids])

    async def end_lease(self, job_id: str) -> None:
        """What time does to a lease that nobody renews."""
        await self.client.delete(keys.in_progress(job_id))
        await self.make_due(job_id)

    async def make_due(self, job_id: str, *, ago_ms: int = 1) -> None:
        await self.client.zadd(QUEUE, {job_id: await self.now_ms() - ago_ms})

    async def now_ms(self) -> int:
        seconds, micros = await self.client.time()
        return seconds * 1000 + micros // 1000

    async def due_ms(self, job_id: str) -> int | None:
        score = await self.client.zscore(QUEUE, job_id)
        return None if score is None else int(score)

    async def waiting(self) -> list[str]:
        return [one.decode() for one in await self.client.zrange(QUEUE, 0, -1)]

    async def counters(self) -> dict[str, int]:
        found = await self.client.hgetall(keys.counters(QUEUE))
        return {name.decode(): int(value) for name, value in found.items()}

    async def run_fields(self, run: str) -> dict[str, int]:
        found = await self.client.hgetall(keys.run(run))
        return {name.decode(): int(value) for name, value in found.items()}

    async def outcomes(self, run: str) -> list[bytes]:
        entries = await self.client.xrange(keys.run_outcomes(run))
        return [one for _, fields in entries for one in fields.values()]

    async def everything(self) -> dict[str, Any]:
        """All that the broker holds, the queue's counters aside."""
        held: dict[str, Any] = {}
        for raw in await self.client.keys("*"):
            name = raw.decode()
            kind = await self.client.type(name)
            if kind == b"string":
                held[name] = await self.client.get(name)
            elif kind == b"zset":
                held[name] = await self.client.zrange(name, 0, -1, withscores=True)
            elif kind == b"hash":
                held[name] = await self.client.hgetall(name)
            else:
                held[name] = await self.client.xrange(name)
        held.pop(keys.counters(QUEUE), None)
        return held

    @asynccontextmanager
    async def listening(self, *queues: str) -> AsyncIterator[list[tuple[str, bytes]]]:
        """What is published on the queues' wake channels within the block."""
        heard: list[tuple[str, bytes]] = []
        async with self.client.pubsub() as pubsub:
            await pubsub.subscribe(*[keys.wake(one) for one in queues or (QUEUE,)])
            yield heard
            # A message of our own, behind all the others: nothing is left to wait for.
            await self.client.publish(keys.wake((queues or (QUEUE,))[0]), b"the end")
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=10)
                if message is None:
                    continue
                if message["data"] == b"the end":
                    return
                heard.append((message["channel"].decode(), message["data"]))


def fresh(jobs: Sequence[ClaimedJob]) -> list[str]:
    return [one.id for one in jobs]
