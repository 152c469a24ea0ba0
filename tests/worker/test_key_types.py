"""A worker among shared keys that some client has made to be of another type."""

from __future__ import annotations

import asyncio
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.arq.conftest import Make, answer, enqueued, make, pool
from tests.worker.hosting import enqueue, hosted, outcomes, registry_of
from twolane import job, keys
from twolane.fleet import Heartbeat
from twolane.store import Cancellation, Store
from worker.heartbeat import Pulse, identify

__all__ = ["make", "pool"]  # fixtures


@job
async def fine(ctx: dict[str, Any]) -> None:
    pass


@job
async def hold(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    await asyncio.Event().wait()


def told(caplog: pytest.LogCaptureFixture, key: str) -> list[str]:
    return [one for one in caplog.messages if f"the key {key} is of the type string" in one]


async def test_jobs_run_beside_aborts_of_another_type_and_the_key_is_named_once(
    broker: str, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Every claim of every worker failed, for good."""
    registry = registry_of([fine, hold])
    await client.set(keys.ABORTS, "a stray client's")
    async with hosted(broker, client, registry) as worker:
        run = await enqueue(client, registry, "fine", *[{}] * 20)
        assert [one.success for one in await outcomes(client, run)] == [True] * 20
        for _ in range(3):
            await worker.pulse.send()

        assert told(caplog, keys.ABORTS) == [
            "the key arq:abort is of the type string, where a zset belongs: no running job can be "
            "cancelled. Find out who wrote it, and delete it (DEL arq:abort); the worker goes on "
            "by itself then"
        ]
        assert not [one for one in caplog.messages if "broker away" in one]

        await client.delete(keys.ABORTS)
        run = await enqueue(client, registry, "hold")
        await worker.wait_started()
        await Store(client).cancel(keys.IO_QUEUE, [Cancellation(*worker.started, b"", run)])
        assert [one.cancelled for one in await outcomes(client, run)] == [True]


async def test_a_queue_of_another_type_is_named_once_and_work_goes_on_when_it_is_deleted(
    broker: str, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    registry = registry_of([fine])
    async with hosted(broker, client, registry) as worker:
        await client.set(keys.IO_QUEUE, "a stray client's")
        failed = worker.engine.exchange._reconnection

        async def failed_often() -> bool:
            worker.engine.wake()
            return failed._failures > 5

        await wait_until(failed_often, "claims that fail")
        for _ in range(3):
            await worker.pulse.send()

        (line,) = told(caplog, keys.IO_QUEUE)
        assert "delete it (DEL arq:queue)" in line
        assert [one for one in caplog.messages if "broker away" in one] == [
            "broker away while claiming jobs and recording results (ResponseError: a key of "
            "another type, which is named beside this); trying again"
        ]

        await client.delete(keys.IO_QUEUE)
        run = await enqueue(client, registry, "fine")
        assert len(await outcomes(client, run)) == 1


async def test_a_worker_that_cannot_be_listed_is_well_all_the_same(
    client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It was told to orchestrators as unwell."""
    sent: list[None] = []

    async def nothing(_: list[str]) -> None:
        pass

    def ignore(_: Heartbeat) -> None:
        pass

    beat = identify("io")
    for key in (keys.WORKERS, keys.lane_workers("io"), keys.ABORTS):
        await client.set(key, "a stray client's")
    pulse = Pulse(client, beat, ignore, nothing, on_sent=lambda: sent.append(None))

    await pulse.send()
    await pulse.send()

    assert sent == [None, None]
    assert beat.fleet == 1
    assert await client.exists(keys.worker(beat.worker)) == 1
    assert len(told(caplog, keys.WORKERS)) == len(told(caplog, keys.lane_workers("io"))) == 1

    # Once it is right again, the next time is told too.
    await client.delete(keys.WORKERS)
    await pulse.send()
    await client.set(keys.WORKERS, "once more")
    await pulse.send()
    assert len(told(caplog, keys.WORKERS)) == 2


@pytest.mark.parametrize("aborts", [False, True])
async def test_an_arq_applications_jobs_run_beside_aborts_of_another_type(
    client: Redis, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture, aborts: bool
) -> None:
    await client.set(keys.ABORTS, "a stray client's")
    held = asyncio.Event()

    async def wait_until_told(ctx: dict[str, Any]) -> int:
        await held.wait()
        return 7

    worker = make(
        answer, arq.func(wait_until_told, name="wait_until_told"), allow_abort_jobs=aborts
    )
    made = [await enqueued(pool, "answer"), await enqueued(pool, "wait_until_told")]
    running = asyncio.create_task(worker.async_run())

    assert await made[0].result(timeout=10, poll_delay=0.01) == 42
    if aborts:

        async def is_named() -> bool:
            return bool(told(caplog, keys.ABORTS))

        await wait_until(is_named, "the key's name")
    held.set()
    assert await made[1].result(timeout=10, poll_delay=0.01) == 7
    assert len(told(caplog, keys.ABORTS)) == int(aborts)
    running.cancel()


async def test_an_arq_applications_queue_of_another_type_is_named_once(
    client: Redis, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    await client.set(keys.IO_QUEUE, "a stray client's")
    worker = make(answer)
    running = asyncio.create_task(worker.async_run())

    async def asked_thrice() -> bool:
        return worker._claims > 3

    await wait_until(asked_thrice, "claims that fail")
    assert len(told(caplog, keys.IO_QUEUE)) == 1
    assert len([one for one in caplog.messages if "broker away" in one]) == 1

    await client.delete(keys.IO_QUEUE)
    made = await enqueued(pool, "answer")
    assert await made.result(timeout=10, poll_delay=0.01) == 42
    running.cancel()
