"""arq's own clients and workers on the same queue as ours, with our serializer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, JobStatus
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.e2e.conftest import Start, alive, wait_noted
from tests.worker.hosting import HostedWorker, enqueue, hosted, registry_of
from twolane import address, job, keys, outcome, runs, wire
from twolane.errors import RemoteError
from twolane.keys import CPU_QUEUE

FOREVER = 60.0
POLL = 0.01


@job
async def add(ctx: dict[str, Any], left: int, right: int) -> int:
    return left + right


@job
async def fail(ctx: dict[str, Any], message: str) -> None:
    raise ValueError(message)


@job
async def wait_for_go(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    await ctx["go"].wait()


@job(keep_result=0)
async def forget(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])


@job
async def alone(ctx: dict[str, Any]) -> str:
    """Runs in arq's workers and in ours, and notices another attempt at the same job."""
    redis, job_id = ctx["redis"], ctx["job_id"]
    assert await redis.set(f"test:lock:{job_id}", 1, nx=True), "it runs twice at once"
    await redis.rpush("test:ran", job_id)
    ctx["started"].append(job_id)
    await ctx["go"].wait()
    await redis.delete(f"test:lock:{job_id}")
    return str(ctx["name"])


REGISTRY = registry_of([add, fail, wait_for_go, forget, alone])


@pytest.fixture
async def pool(broker: str) -> AsyncIterator[ArqRedis]:
    """arq's client, as an application makes it."""
    made = await arq.create_pool(
        RedisSettings(unix_socket_path=address.parse(broker).path),
        job_serializer=wire.dumps,
        job_deserializer=wire.loads,
    )
    yield made
    await made.aclose()


@pytest.fixture
async def running(broker: str, client: Redis) -> AsyncIterator[HostedWorker]:
    async with hosted(broker, client, REGISTRY) as worker:
        yield worker


def stock_worker(pool: ArqRedis, **options: Any) -> arq.Worker:
    return arq.Worker(
        [arq.func(one.function, name=one.name) for one in REGISTRY],
        redis_pool=pool,
        handle_signals=False,
        poll_delay=POLL,
        job_serializer=wire.dumps,
        job_deserializer=wire.loads,
        **options,
    )


async def enqueued(pool: ArqRedis, function: str, *args: Any, **options: Any) -> Job:
    made = await pool.enqueue_job(function, *args, **options)
    assert made is not None
    return made


# -- arq's client, our worker --


async def test_an_arq_client_gets_the_result_of_a_job_that_our_worker_ran(
    pool: ArqRedis, running: HostedWorker
) -> None:
    made = await enqueued(pool, "add", 2, right=3)

    assert await made.result(timeout=10, poll_delay=POLL) == 5
    info = await made.result_info()
    assert info is not None
    assert (info.function, list(info.args), info.kwargs) == ("add", [2], {"right": 3})
    assert (info.success, info.job_try, info.job_id) == (True, 1, made.job_id)
    assert info.queue_name == keys.IO_QUEUE
    assert info.enqueue_time <= info.start_time <= info.finish_time
    assert [one.job_id for one in await pool.all_job_results()] == [made.job_id]
    assert await made.status() is JobStatus.complete


async def test_an_arq_client_gets_the_error_of_a_failed_job(
    pool: ArqRedis, running: HostedWorker
) -> None:
    made = await enqueued(pool, "fail", "no such luck")

    with pytest.raises(RemoteError, match="ValueError: no such luck"):
        await made.result(timeout=10, poll_delay=POLL)


async def test_an_arq_client_sees_where_a_job_is(pool: ArqRedis, running: HostedWorker) -> None:
    made = await enqueued(pool, "wait_for_go")
    later = await enqueued(pool, "add", 1, 1, _defer_by=FOREVER)
    await running.wait_started()

    assert await made.status() is JobStatus.in_progress
    assert await later.status() is JobStatus.deferred
    assert {one.job_id for one in await pool.queued_jobs()} == {made.job_id, later.job_id}
    running.go.set()
    await made.result(timeout=10, poll_delay=POLL)


async def test_a_deferred_job_does_not_start_before_its_time(
    pool: ArqRedis, running: HostedWorker
) -> None:
    asked_ms = time.time() * 1000
    made = await enqueued(pool, "add", 1, 2, _defer_by=0.3)

    assert await made.result(timeout=10, poll_delay=POLL) == 3
    info = await made.result_info()
    assert info is not None
    assert info.start_time.timestamp() * 1000 >= asked_ms + 299


async def test_a_job_id_is_unique_while_its_job_or_its_result_is_there(
    pool: ArqRedis, running: HostedWorker
) -> None:
    made = await enqueued(pool, "wait_for_go", _job_id="only-one")
    await running.wait_started()
    assert await pool.enqueue_job("wait_for_go", _job_id="only-one") is None

    running.go.set()
    await made.result(timeout=10, poll_delay=POLL)
    assert await pool.enqueue_job("wait_for_go", _job_id="only-one") is None

    for _ in range(2):  # no result is kept of this one, so its id is free when it has run
        ran = len(running.started)
        await enqueued(pool, "forget", _job_id="again")
        await running.wait_started(ran + 1)

        async def over() -> bool:
            return await Job("again", pool).status() is JobStatus.not_found

        await wait_until(over, "the end of the job")


async def test_an_arq_client_aborts_a_running_job(pool: ArqRedis, running: HostedWorker) -> None:
    made = await enqueued(pool, "wait_for_go")
    await running.wait_started()

    assert await made.abort(timeout=10, poll_delay=POLL)

    assert await pool.zcard(keys.ABORTS) == 0
    assert await pool.zcard(keys.IO_QUEUE) == 0


@pytest.mark.parametrize("options", [{"_defer_by": FOREVER}, {}], ids=["deferred", "due"])
async def test_an_arq_client_aborts_a_waiting_job(
    broker: str, client: Redis, pool: ArqRedis, options: dict[str, Any]
) -> None:
    made = await enqueued(pool, "wait_for_go", **options)
    aborting = asyncio.create_task(made.abort(timeout=10, poll_delay=POLL))

    async def asked() -> bool:
        return bool(await pool.zcard(keys.ABORTS))

    await wait_until(asked, "the request")
    async with hosted(broker, client, REGISTRY) as worker:
        assert await aborting

    assert worker.started == []


async def test_an_arq_client_reaches_the_cpu_lane_by_its_queue(
    pool: ArqRedis, start: Start
) -> None:
    start("cpu")

    made = await enqueued(pool, "compute", 0.0, _queue_name=CPU_QUEUE)

    assert isinstance(await made.result(timeout=10, poll_delay=POLL), int)


async def test_an_arq_client_aborts_a_running_cpu_job(
    pool: ArqRedis, start: Start, notes: Path
) -> None:
    start("cpu")
    made = await enqueued(pool, "hold", str(notes), "held", _queue_name=CPU_QUEUE)
    await wait_noted(notes, "held")

    assert await made.abort(timeout=10, poll_delay=POLL)

    pid = int((notes / "held").read_text())

    async def gone() -> bool:
        return not alive(pid)

    await wait_until(gone, "the end of the job's process")


# -- arq's worker, our producer --


async def test_a_stock_arq_worker_runs_our_producers_job_and_we_read_its_result(
    client: Redis, pool: ArqRedis
) -> None:
    run = await enqueue(client, REGISTRY, "add", {"left": 2, "right": 3})

    await stock_worker(pool, burst=True).async_run()

    data = await client.get(keys.result(runs.job_id(run, 0)))
    one = outcome.decode(data)
    assert (one.success, one.result, one.function) == (True, 5, "add")
    assert (one.kwargs, one.try_) == ({"left": 2, "right": 3}, 1)


async def test_the_error_of_a_stock_arq_worker_is_readable_too(
    client: Redis, pool: ArqRedis
) -> None:
    run = await enqueue(client, REGISTRY, "fail", {"message": "no such luck"})

    await stock_worker(pool, burst=True).async_run()

    one = outcome.decode(await client.get(keys.result(runs.job_id(run, 0))))
    assert one.error is not None
    assert (one.error.type, one.error.message) == ("ValueError", "no such luck")


async def test_a_stock_worker_and_ours_share_a_queue_and_run_each_job_once(
    client: Redis, pool: ArqRedis, running: HostedWorker
) -> None:
    started: list[str] = []
    running.engine.ctx["name"] = "ours"
    stock = stock_worker(
        pool, max_jobs=5, ctx={"go": running.go, "started": started, "name": "arq's"}
    )
    running.engine.slots = 5
    stock_task = asyncio.create_task(stock.async_run())
    run = await enqueue(client, REGISTRY, "alone", *[{}] * 100)

    async def both() -> bool:
        return len(started) == 5 and len(running.started) == 5

    await wait_until(both, "both workers to be busy")
    running.go.set()

    async def over() -> bool:
        return not await client.zcard(keys.IO_QUEUE)

    await wait_until(over, "the end of the run")
    stock_task.cancel()
    await asyncio.wait([stock_task])

    ids = [runs.job_id(run, number) for number in range(100)]
    assert sorted(one.decode() for one in await client.lrange("test:ran", 0, -1)) == ids
    ended = [outcome.decode(data) for data in await client.mget(map(keys.result, ids))]
    assert {one.result for one in ended} == {"ours", "arq's"}
    assert all(one.success and one.try_ == 1 for one in ended)
