"""How full a queue is, at a cost that does not grow with it."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from twolane import keys
from twolane.keys import QUEUES, Lane


class Depth(msgspec.Struct):
    """A queue now. ``later`` counts what is under lease or due in the future.

    ``oldest_seconds`` is for how long the longest-waiting job has been due, 0 where none is.
    ``counters`` are totals since the broker's data began.
    """

    waiting: int
    later: int
    oldest_seconds: float
    counters: dict[str, int]


async def look(client: Redis, lane: Lane) -> Depth:
    queue = QUEUES[lane]
    seconds, micros = await client.time()
    now_ms = seconds * 1000 + micros // 1000
    async with client.pipeline(transaction=True) as pipe:
        pipe.zcount(queue, "-inf", now_ms)
        pipe.zcard(queue)
        pipe.zrange(queue, 0, 0, withscores=True)
        pipe.hgetall(keys.counters(queue))
        waiting, total, first, counters = await pipe.execute()
    oldest_ms = now_ms - first[0][1] if waiting and first else 0
    return Depth(
        waiting=waiting,
        later=total - waiting,
        oldest_seconds=oldest_ms / 1000,
        counters={name.decode(): int(value) for name, value in counters.items()},
    )
