"""What a worker leaves at the broker, made by hand: outcomes, settled jobs, a heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from redis.asyncio import Redis

from producer.collect import Collected
from twolane import fleet, keys, outcome, wire
from twolane.fleet import Heartbeat
from twolane.keys import QUEUES, Lane
from twolane.outcome import Outcome
from twolane.runs import Run
from twolane.store import ClaimedJob, Settlement, Store

START_MS = 1_700_000_000_000


def made(number: int = 0, *, at: float = 0.0, **changes: Any) -> Outcome:
    """A job that succeeded; ``at`` is when it started, in seconds from a common beginning."""
    started_ms = START_MS + round(at * 1000)
    one = Outcome(
        try_=1,
        function="wait",
        args=[],
        kwargs={},
        enqueued_ms=started_ms,
        success=True,
        result=None,
        started_ms=started_ms,
        finished_ms=started_ms,
        queue="arq:queue",
        id=f"made-{number:07d}",
        run="made",
        lane="io",
    )
    return msgspec.structs.replace(one, **changes)


def collected(name: str, outcomes: list[Outcome]) -> Collected:
    found = Collected(Run(name, "job", START_MS, total=len(outcomes), sealed=True))
    found.add(outcomes)
    return found


def succeeded(result: Any = None) -> Callable[[wire.Payload], dict[str, Any]]:
    return lambda _: {"success": True, "result": msgspec.Raw(wire.dumps(result))}


def failed(message: str = "no") -> Callable[[wire.Payload], dict[str, Any]]:
    return lambda _: {"success": False, "result": msgspec.Raw(wire.dumps(ValueError(message)))}


async def claim(client: Redis, lane: Lane = "io", count: int = 1_000) -> list[ClaimedJob]:
    """Take jobs as a worker would; each call is an attempt of its own."""
    fence = f"by-hand:{await client.incr('tests:fence')}"
    return (await Store(client).claim(QUEUES[lane], fence, count, 60_000)).jobs


async def settle(
    client: Redis,
    jobs: list[ClaimedJob],
    end: Callable[[wire.Payload], dict[str, Any]],
    lane: Lane = "io",
    keep_ms: int = 60_000,
) -> None:
    """Record how claimed jobs ended, as a worker would."""
    settlements = []
    for job in jobs:
        assert job.payload is not None
        payload = wire.load_payload(job.payload)
        record = made(
            function=payload.function,
            args=payload.args,
            kwargs=payload.kwargs,
            id=job.id,
            run=payload.run,
            lane=lane,
            try_=job.try_,
            **end(payload),
        )
        whole, entry = outcome.encode(record)
        settlements.append(
            Settlement(
                job.id,
                job.fence,
                whole,
                keep_ms,
                "done" if record.success else "failed",
                record.function,
                payload.run or "",
                entry,
            )
        )
    assert await Store(client).acknowledge(QUEUES[lane], settlements) == []


async def beat(client: Redis, name: str, **changes: object) -> None:
    seconds, _ = await client.time()
    one = Heartbeat(worker=name, lane="cpu", host="here", pid=1, slots=1)
    await client.set(
        keys.worker(name), fleet.encode(msgspec.structs.replace(one, **changes)), px=60_000
    )
    await client.zadd(keys.WORKERS, {name: seconds * 1000 + 60_000})
