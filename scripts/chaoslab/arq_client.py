"""An arq application's own client: it enqueues as arq does, and reads arq's results."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Self

import arq
import arq.jobs
from arq.connections import ArqRedis, RedisSettings

from chaoslab.judge import Record
from chaoslab.lab import AWAY, Lab
from twolane import keys
from twolane.outcome import Outcome

# On the event loop of some CPython 3.12 and 3.13 a write to a connection that was lost since the
# command before raises TypeError (python/cpython#136234); arq sends several on one connection.
LOST = (*AWAY, TypeError)
KEEP_RESULT_MS = 3_600_000  # arq's default, which the application keeps to


class ArqClient:
    """Enqueues for the drop-in worker of a fault. A context manager."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._ids: list[str] = []
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        self._pool: ArqRedis = await arq.create_pool(RedisSettings.from_dsn(self._lab.server.url))
        self._lab.record_sources.append(self.records)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lab.kept_records += await self.records()
        self._lab.record_sources.remove(self.records)
        await self._pool.aclose()

    async def enqueue(
        self, function: str, count: int = 1, *, expect: str = "done", **arguments: Any
    ) -> list[str]:
        """Enqueue jobs one by one, each until the broker has answered; their ids."""
        ids = [f"arq-{next(self._numbers):07d}" for _ in range(count)]
        for one in ids:
            await self._enqueue(function, one, arguments)
            self._lab.acknowledged([one], expect)
            self._ids.append(one)
        return ids

    async def _enqueue(self, function: str, job_id: str, arguments: dict[str, Any]) -> None:
        while True:
            try:
                # A second time it is refused where the first one was heard.
                await self._pool.enqueue_job(function, _job_id=job_id, key=job_id, **arguments)
            except LOST:
                await asyncio.sleep(0.05)
            else:
                return

    async def records(self) -> list[Record]:
        """The results that there are; they were put there when their time to live began."""
        ids = list(self._ids)  # more come meanwhile
        seconds, microseconds = await self._pool.time()
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        async with self._pool.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.get(keys.result(one))
                pipe.pttl(keys.result(one))
            found = await pipe.execute()
        return [
            _record(job_id, data, now_ms - (KEEP_RESULT_MS - left_ms))
            for job_id, data, left_ms in zip(ids, found[::2], found[1::2], strict=True)
            if data is not None
        ]


def _record(job_id: str, data: bytes, at_ms: int) -> Record:
    told = arq.jobs.deserialize_result(data)
    return Record(
        at_ms,
        Outcome(
            told.job_try, told.function, [], {}, 0, told.success, told.result, 0, 0,
            told.queue_name, job_id, worker=f"arq-h-{told.result}-x",
        ),
    )  # fmt: skip
