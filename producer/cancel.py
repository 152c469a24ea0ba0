"""Cancels jobs: those that wait at once, those that run by way of their workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from twolane import keys, outcome, runs, wire
from twolane.errors import UndecodablePayload
from twolane.keys import LANES, QUEUES, Lane
from twolane.outcome import EMPTY_LIST, EMPTY_MAP, Outcome
from twolane.store import Cancellation, Store, batches


async def cancel_run(client: Redis, name: str) -> tuple[int, int]:
    """Cancel what is left of a run; returns how many were settled, how many were running.

    Raises:
        UnknownRun: there is none of that name.
    """
    run = await runs.get(client, name)
    return await cancel_jobs(client, (runs.job_id(name, number) for number in range(run.total)))


async def cancel_jobs(client: Redis, ids: Iterable[str]) -> tuple[int, int]:
    """Cancel jobs by id; returns how many were settled here, how many were put to their workers."""
    store = Store(client)
    settled = asked = 0
    for batch in batches(ids, 500):
        payloads = await client.mget([keys.job(one) for one in batch])
        left = [(one, data) for one, data in zip(batch, payloads, strict=True) if data is not None]
        for lane in LANES:
            wanted = [_cancellation(one, data, lane) for one, data in left]
            if wanted:
                done, running = await store.cancel(QUEUES[lane], wanted)
                settled, asked = settled + done, asked + running
    return settled, asked


def _cancellation(job_id: str, data: bytes, lane: Lane) -> Cancellation:
    now_ms = time.time_ns() // 1_000_000
    try:
        payload = wire.load_payload(data)
    except UndecodablePayload:
        payload = wire.Payload("?", EMPTY_LIST, EMPTY_MAP, now_ms)
    if not wire.is_readable(payload):
        payload.args, payload.kwargs = EMPTY_LIST, EMPTY_MAP
    record, entry = outcome.encode(
        Outcome(
            try_=0,
            function=payload.function,
            args=payload.args,
            kwargs=payload.kwargs,
            enqueued_ms=payload.enqueued_ms,
            success=False,
            result=msgspec.Raw(wire.dumps(asyncio.CancelledError("cancelled before it started"))),
            started_ms=now_ms,
            finished_ms=now_ms,
            queue=QUEUES[lane],
            id=job_id,
            run=payload.run,
            lane=lane,
            wait_ms=max(0, now_ms - payload.enqueued_ms),
            cancelled=True,
        )
    )
    return Cancellation(job_id, entry or record, payload.run or "")
