"""What ends an attempt other than its own job: a later attempt, the worker, a full server."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
from typing import Any

import arq
import arq.worker
import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, SerializationError
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as BrokerGone

from tests.conftest import wait_until
from tests.worker.arq.conftest import POLL, Make, answer, enqueued
from twolane import keys

HOUR = 3600.0


class Twice:
    """A job whose first attempt, once it is cancelled, waits until the second one says ``go``."""

    def __init__(self) -> None:
        self.began, self.second, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.stale: asyncio.Task[Any] | None = None

    async def first(self) -> None:
        self.stale = asyncio.current_task()
        self.began.set()
        try:
            await asyncio.sleep(HOUR)
        finally:
            await self.go.wait()

    async def end_first(self) -> None:
        """Let the first attempt end, and the worker see it."""
        assert self.stale is not None
        ended = asyncio.Event()
        self.stale.add_done_callback(lambda _: ended.set())  # after the worker's own
        self.go.set()
        await ended.wait()


async def end_lease(client: Redis, job_id: str) -> None:
    """What the end of a lease leaves: a job that is due, and that nobody holds."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.delete(keys.in_progress(job_id))
        pipe.zadd(keys.IO_QUEUE, {job_id: 2})
        await pipe.execute()


# -- A later attempt at the same job, in the same worker --


async def test_the_end_of_a_stale_attempt_does_not_fail_the_later_one(
    client: Redis, pool: ArqRedis, make: Make
) -> None:
    twice = Twice()

    async def job(ctx: dict[str, Any]) -> int:
        if ctx["job_try"] == 1:
            await twice.first()
        await twice.end_first()
        return int(ctx["job_try"])

    made = await enqueued(pool, "job")
    worker = make(arq.func(job, name="job"))
    running = asyncio.create_task(worker.async_run())
    await twice.began.wait()

    await end_lease(client, made.job_id)

    # The stale one took the later one's task away, which then failed with a KeyError.
    assert await made.result(timeout=10, poll_delay=POLL) == 2
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (1, 0, 0)
    running.cancel()


async def test_the_end_of_a_stale_attempt_does_not_forget_the_later_one_s_abort(
    client: Redis, pool: ArqRedis, make: Make
) -> None:
    twice = Twice()

    async def job(ctx: dict[str, Any]) -> None:
        if ctx["job_try"] == 1:
            await twice.first()
        twice.second.set()
        try:
            await asyncio.sleep(HOUR)
        finally:
            await twice.end_first()

    made = await enqueued(pool, "job")
    worker = make(arq.func(job, name="job"), allow_abort_jobs=True)
    running = asyncio.create_task(worker.async_run())
    await twice.began.wait()
    await end_lease(client, made.job_id)
    await twice.second.wait()

    assert await made.abort(timeout=10, poll_delay=POLL)
    # Where it is forgotten, the cancelled job is first put back to be tried a third time.
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 0)
    running.cancel()


# -- What the worker itself fails --


@pytest.mark.parametrize("why", ["unknown", "undecodable", "wrong", "tries", "expired"])
async def test_a_job_that_cannot_be_started_fails_and_takes_no_slot(
    client: Redis, pool: ArqRedis, make: Make, why: str
) -> None:
    await enqueued(pool, "nowhere" if why == "unknown" else "answer", _job_id="poison")
    if why == "undecodable":
        await client.set(keys.job("poison"), b"not a pickle")
    elif why == "wrong":
        payload = {"t": None, "f": ["a list"], "a": (), "k": {}, "et": "yesterday"}
        await client.set(keys.job("poison"), pickle.dumps(payload))
    elif why == "tries":
        await client.set(keys.retry("poison"), 5)
    elif why == "expired":
        await client.delete(keys.job("poison"))
    await enqueued(pool, "answer", _job_id="good")
    worker = make(answer, burst=True, max_jobs=1)

    await worker.async_run()

    error: type[Exception] = arq.worker.JobExecutionFailed
    if why in ("undecodable", "wrong"):
        error = SerializationError
    with pytest.raises(error):
        await Job("poison", pool).result(timeout=1, poll_delay=POLL)
    assert await Job("good", pool).result(timeout=1, poll_delay=POLL) == 42
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)
    left = {keys.id_of(one) for one in await client.keys("*")}
    assert left - {worker.health_check_key} == {keys.result("poison"), keys.result("good")}


async def test_a_job_whose_attempt_the_worker_failed_is_tried_again(
    pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Rude(BaseException):
        """What no handler of errors catches."""

    async def on_job_end(ctx: dict[str, Any]) -> None:
        if ctx["job_try"] == 1:
            raise Rude

    made = await enqueued(pool, "answer")
    worker = make(answer, on_job_end=on_job_end, lease=0.5)
    running = asyncio.create_task(worker.async_run())

    # Its lease was renewed for ever.
    assert await made.result(timeout=10, poll_delay=POLL) == 42
    info = await made.result_info()
    assert info is not None
    assert info.job_try == 2
    assert f"job {made.job_id}:answer: the worker failed it" in caplog.text
    running.cancel()


async def test_a_job_that_is_cancelled_before_its_first_step_is_given_back_at_once(
    client: Redis, pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await enqueued(pool, "answer", _job_try=3)
    worker = make(answer, redis_pool=pool)
    asked = asyncio.Event()

    async def slow(*arguments: Any) -> None:
        """The server takes its time to note the try that the job's producer asked for."""
        asked.set()
        await asyncio.sleep(HOUR)

    monkeypatch.setattr(pool, "setex", slow)
    running = asyncio.create_task(worker.async_run())
    await asked.wait()

    running.cancel()
    worker.tasks[made.job_id].cancel()

    async def given_back() -> bool:
        return not await client.exists(keys.in_progress(made.job_id))

    await wait_until(given_back, "the job's release")
    assert await client.zcard(keys.IO_QUEUE) == 1
    await asyncio.gather(running, return_exceptions=True)


async def test_a_worker_that_ends_while_a_job_is_about_to_start_calls_its_shutdown(
    client: Redis, pool: ArqRedis, make: Make
) -> None:
    ended: list[str] = []

    async def on_shutdown(ctx: dict[str, Any]) -> None:
        ended.append("shutdown")

    await enqueued(pool, "answer", _job_id="one")
    worker = make(answer, redis_pool=pool, on_shutdown=on_shutdown)
    await worker._claim(1)
    assert list(worker.tasks) == ["one"]  # claimed, and not begun

    # The cancellation of what had not begun was taken for one of the end itself.
    await worker.close()

    assert ended == ["shutdown"]
    assert not await client.exists(keys.in_progress("one"))
    assert await client.zcard(keys.IO_QUEUE) == 1


async def test_jobs_whose_leases_ended_before_the_answer_was_read_are_not_run(
    pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    async def job(ctx: dict[str, Any]) -> None:
        tries.append(ctx["job_try"])

    made = await enqueued(pool, "job")
    worker = make(arq.func(job, name="job"), redis_pool=pool, lease=0.5, burst=True)
    worker._open()
    store = worker._store
    assert store is not None
    claim = store.claim

    async def held_up(*arguments: Any) -> Any:
        """A job of this worker computes for longer than a lease while the answer comes."""
        monkeypatch.setattr(store, "claim", claim)
        claimed = await claim(*arguments)
        time.sleep(0.6)  # noqa: ASYNC251  (that is what it is about)
        return claimed

    release = worker._release

    def release_and_take_time(jobs: Any) -> None:
        worker.lease_ms = 60_000  # of the next claim, however busy the machine is
        release(jobs)

    monkeypatch.setattr(store, "claim", held_up)
    monkeypatch.setattr(worker, "_release", release_and_take_time)
    await worker.async_run()

    assert tries == [2]
    assert await made.status() is arq.jobs.JobStatus.complete


# -- A server that refuses --


@pytest.mark.parametrize("ends", ["finish", "retry"])
async def test_a_full_server_takes_the_outcome_of_what_runs(
    client: Redis, pool: ArqRedis, make: Make, ends: str
) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def job(ctx: dict[str, Any]) -> str:
        if ctx["job_try"] == 1:
            began.set()
            await go.wait()
            if ends == "retry":
                raise arq.Retry(defer=0)
        return "x" * 100

    made = await enqueued(pool, "job")
    worker = make(arq.func(job, name="job"))
    running = asyncio.create_task(worker.async_run())
    await began.wait()

    await client.config_set("maxmemory", 1)
    try:
        go.set()
        assert await made.result(timeout=10, poll_delay=POLL) == "x" * 100
    finally:
        await client.config_set("maxmemory", 0)
    running.cancel()


async def test_what_the_server_does_not_take_does_not_pile_up(
    pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(12):
        await enqueued(pool, "answer")
    worker = make(answer, max_jobs=2, redis_pool=pool)
    worker._open()
    assert worker._settler is not None
    call = worker._settler._call

    async def refused(args: list[Any]) -> list[bytes]:
        raise BrokerGone("not now")

    monkeypatch.setattr(worker._settler, "_call", refused)
    for _ in range(12):
        await worker._poll_iteration()
        await asyncio.gather(*worker.tasks.values())

    assert worker.jobs_complete == len(worker._held) == 8  # four times its slots
    monkeypatch.setattr(worker._settler, "_call", call)
    await worker._settler.wait_told()
    await worker._poll_iteration()
    await asyncio.gather(*worker.tasks.values())
    assert worker.jobs_complete == 10


async def test_outcomes_wait_for_a_server_that_loads_its_data(
    pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await enqueued(pool, "answer")
    worker = make(answer, redis_pool=pool)
    worker._open()
    assert worker._settler is not None
    channel, replies = worker._settler._channel, [[BusyLoadingError("loading")]]
    send = channel.send

    async def loading_at_first(commands: Any) -> Any:
        return replies.pop() if replies else await send(commands)

    monkeypatch.setattr(channel, "send", loading_at_first)
    await worker._poll_iteration()

    assert await made.result(timeout=10, poll_delay=POLL) == 42
    assert not replies
    with contextlib.suppress(asyncio.CancelledError):
        await worker._settler.wait_told()
