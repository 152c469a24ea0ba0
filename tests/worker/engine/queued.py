"""What the tests of the engine put into its queue, and what they find there."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from tests.worker.engine.jobs import REGISTRY
from tests.worker.hosting import enqueue, outcomes
from twolane import keys, runs, wire
from twolane.outcome import Outcome
from twolane.store import NewJob, Store


async def one_outcome(client: Redis, function: str, **arguments: Any) -> Outcome:
    (one,) = await outcomes(client, await enqueue(client, REGISTRY, function, arguments))
    return one


async def run_outcomes(client: Redis, run: str) -> list[Outcome]:
    return [one async for batch in runs.read_all(client, run) for one in batch]


async def put(client: Redis, payload: bytes, run: str = "test", ttl_ms: int = 0) -> str:
    """Enqueue bytes as a job of a run; the job's id."""
    await runs.create(client, "test", run)
    job_id = runs.job_id(run, 0)
    await Store(client).enqueue_many(keys.IO_QUEUE, [NewJob(job_id, payload, 0, ttl_ms)], run)
    await runs.seal(client, run)
    return job_id


def payload(function: str, *args: Any, **extra: Any) -> bytes:
    return wire.dumps(
        {"t": None, "f": function, "a": args, "k": {}, "et": 1_000, "run": "test", **extra}
    )


async def leases(client: Redis) -> list[str]:
    """The ids of the jobs that somebody holds."""
    found = [key async for key in client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")]
    return sorted(key.decode().removeprefix(keys.IN_PROGRESS_PREFIX) for key in found)


async def nothing_is_left(client: Redis) -> bool:
    """Neither waiting nor running, and no count of tries."""
    left = [key async for key in client.scan_iter(keys.RETRY_PREFIX + "*")]
    return not (left or await leases(client) or await client.zcard(keys.IO_QUEUE))
