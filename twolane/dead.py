"""The dead letters: jobs that failed for good, their payloads kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from redis.asyncio import Redis

from twolane import keys, outcome
from twolane.errors import UndecodablePayload
from twolane.store import batches


class DeadLetter(msgspec.Struct):
    """A job that failed for good, as it was recorded then. Error texts are untrusted."""

    id: str
    function: str
    queue: str
    run: str
    died_ms: int
    tries: int
    error: str
    message: str
    traceback: str = ""


async def count(client: Redis) -> int:
    return int(await client.zcard(keys.DEAD))


async def ids(client: Redis, run: str | None = None) -> list[str]:
    """The ids of all dead letters, the latest first, or of one run's."""
    found = [keys.id_of(one) for one in await client.zrevrange(keys.DEAD, 0, -1)]
    return found if run is None else [one for one in found if one.rpartition("-")[0] == run]


async def letters(client: Redis, wanted: Iterable[str]) -> AsyncIterator[DeadLetter]:
    """The dead letters of those ids, in that order; an id that has none is passed over."""
    for batch in batches(wanted, 200):
        async with client.pipeline(transaction=False) as pipe:
            for one in batch:
                pipe.hgetall(keys.dead(one))
            hashes = await pipe.execute()
        for one, fields in zip(batch, hashes, strict=True):
            if fields:
                yield _from_hash(one, fields)


async def drop(client: Redis, wanted: Iterable[str]) -> list[str]:
    """Delete dead letters for good; returns the ids that were none."""
    missing: list[str] = []
    for batch in batches(wanted, 500):
        async with client.pipeline(transaction=True) as pipe:
            for one in batch:
                pipe.zrem(keys.DEAD, one)
            pipe.delete(*(keys.dead(one) for one in batch))
            *removed, _ = await pipe.execute()
        missing += [one for one, count in zip(batch, removed, strict=True) if not count]
    return missing


def _from_hash(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    tries, error, message, traceback = 0, "?", "", ""
    try:
        record: Any = outcome.decode(fields.get(b"result", b""))
    except UndecodablePayload as broken:
        message = str(broken)
    else:
        tries = record.try_ or 0
        if record.error is not None:
            error = record.error.type
            message, traceback = record.error.message, record.error.traceback
    return DeadLetter(
        id=letter_id,
        function=text(b"function"),
        queue=text(b"queue"),
        run=text(b"run"),
        died_ms=int(fields.get(b"died", b"0")),
        tries=tries,
        error=error,
        message=message,
        traceback=traceback,
    )
