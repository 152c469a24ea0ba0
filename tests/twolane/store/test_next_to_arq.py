"""Stock arq's client beside the store, on the same keys."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus

from tests.twolane.store.place import HOUR_MS, QUEUE, Place
from twolane import wire
from twolane.store import (
    NewJob,
)


async def test_arqs_client_sees_our_jobs_as_its_own(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool)
    theirs = ArqJob("a", arq, _deserializer=wire.loads)
    payload = {"t": None, "f": "work", "a": [1], "k": {}, "et": 0}
    result = payload | {"t": 1, "s": True, "r": 42, "st": 0, "ft": 1, "q": QUEUE, "id": "a"}
    seen = [await theirs.status()]

    await place.store.enqueue_many(QUEUE, [NewJob("a", wire.dumps(payload), delay_ms=HOUR_MS)])
    seen.append(await theirs.status())
    await place.make_due("a")
    seen.append(await theirs.status())
    jobs = (await place.claim()).jobs
    seen.append(await theirs.status())
    await place.settle(jobs, result=wire.dumps(result))
    seen.append(await theirs.status())

    assert seen == [
        JobStatus.not_found,
        JobStatus.deferred,
        JobStatus.queued,
        JobStatus.in_progress,
        JobStatus.complete,
    ]
    assert await theirs.result(timeout=5) == 42


async def test_a_job_from_arqs_client_is_claimed(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool, job_serializer=wire.dumps)
    await arq.enqueue_job("work", 1, key="value", _job_id="a")
    await place.make_due("a")  # arq dates a job by its client's clock, rounded up

    [job] = (await place.claim()).jobs

    payload = wire.load_payload(cast(bytes, job.payload))
    assert (job.id, payload.function) == ("a", "work")
    assert (wire.loads(bytes(payload.args)), wire.loads(bytes(payload.kwargs))) == (
        [1],
        {"key": "value"},
    )


async def test_arqs_client_refuses_an_id_that_we_enqueued(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool, job_serializer=wire.dumps)
    await place.enqueue("a")

    assert await arq.enqueue_job("work", _job_id="a") is None


async def test_an_abort_from_arqs_client_reaches_the_claim(valkey_place: Place) -> None:
    place = valkey_place
    arq = ArqRedis(connection_pool=place.client.connection_pool, job_serializer=wire.dumps)
    theirs = await arq.enqueue_job("work", _job_id="a", _defer_by=HOUR_MS // 1000)
    with pytest.raises(asyncio.TimeoutError):
        await ArqJob(theirs.job_id, arq, _deserializer=wire.loads).abort(timeout=0)

    claim = await place.claim()

    assert [one.abort for one in claim.jobs] == [True]
