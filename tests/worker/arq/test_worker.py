"""``worker.arq.Worker`` in the place of ``arq.worker.Worker``, within one process."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import arq
import arq.worker
import pytest
import redis.asyncio as aio
from arq.connections import ArqRedis
from arq.cron import cron
from arq.jobs import Job
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokerGone

from tests.conftest import wait_until
from tests.worker.arq.conftest import POLL, Make, answer, enqueued, settings_of
from twolane import address, keys
from worker.arq import Worker, create_worker


async def wait_long(ctx: dict[str, Any]) -> None:
    ctx["began"].set()
    await asyncio.sleep(3600)


# -- It is made as arq's is --


def test_it_takes_what_arq_s_takes_and_a_lease() -> None:
    theirs = inspect.signature(arq.worker.Worker).parameters
    ours = inspect.signature(Worker).parameters

    assert list(ours) == [*theirs, "lease"]
    assert all(ours[name].default == theirs[name].default for name in theirs)
    assert issubclass(Worker, arq.worker.Worker)


async def test_settings_are_read_as_arq_reads_them_and_may_name_a_lease() -> None:
    class Base:
        max_jobs = 3

    class Settings(Base):
        functions = (answer,)
        lease = timedelta(seconds=30)
        handle_signals = False
        something_else = 1

    worker = create_worker(Settings, max_tries=2)

    assert (worker.lease_ms, worker.max_tries) == (30_000, 2)
    assert worker.max_jobs == 10  # an inherited attribute does not count in arq either
    assert create_worker({"functions": [answer], "handle_signals": False}).lease_ms == 10_000
    assert repr(worker) == "<Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=0>"


async def test_a_lease_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lease is 0\.1; it must be half a second or more"):
        Worker([answer], lease=0.1, handle_signals=False)


@pytest.mark.filterwarnings("ignore:Call to deprecated close")  # arq's own
async def test_what_instruments_arq_s_worker_instruments_ours(
    broker: str, pool: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Error trackers wrap these two: Sentry's does, wherever it finds arq installed."""
    seen: list[str] = []
    run_job, make_worker = arq.worker.Worker.run_job, arq.worker.create_worker

    async def traced_run_job(self: arq.worker.Worker, job_id: str, score: int) -> None:
        seen.append(f"{job_id} begins, due {score > 0}")
        await run_job(self, job_id, score)
        seen.append(f"{job_id} ends")

    def traced_worker(settings: Any, **options: Any) -> arq.worker.Worker:
        settings.functions = [
            arq.func(one, name=f"traced-{one.__name__}") for one in settings.functions
        ]
        return make_worker(settings, **options)

    monkeypatch.setattr(arq.worker.Worker, "run_job", traced_run_job)
    monkeypatch.setattr(arq.worker, "create_worker", traced_worker)

    class Settings:
        functions = (answer,)
        redis_settings = settings_of(broker)
        handle_signals = False

    for job_id, create in (("ours", create_worker), ("theirs", arq.worker.create_worker)):
        await enqueued(pool, "traced-answer", _job_id=job_id)
        Settings.functions = (answer,)
        worker = create(Settings, burst=True)
        assert isinstance(worker, Worker) is (job_id == "ours")

        await worker.async_run()

        assert await Job(job_id, pool).result(poll_delay=POLL) == 42
        assert seen == [f"{job_id} begins, due True", f"{job_id} ends"]
        seen.clear()
        await worker.close()


@pytest.mark.parametrize("names", [("create_worker",), ("Worker", "create_worker")])
async def test_ours_may_stand_in_the_place_of_arq_s(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    class Settings:
        functions = (answer,)
        handle_signals = False

    for name in names:
        monkeypatch.setattr(
            arq.worker, name, {"Worker": Worker, "create_worker": create_worker}[name]
        )

    assert type(arq.worker.create_worker(Settings)) is Worker
    assert type(create_worker(Settings)) is Worker


# -- Hooks that fail --


@pytest.mark.parametrize("hook", ["on_job_start", "on_job_end", "after_job_end"])
async def test_a_hook_s_error_costs_its_job_at_the_most(
    pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    async def broken(ctx: dict[str, Any]) -> None:
        if ctx["job_id"] == "first":
            raise LookupError("the hook's own")

    for job_id in ("first", "second"):
        await enqueued(pool, "answer", _job_id=job_id)
    worker = make(answer, burst=True, **{hook: broken})

    await worker.async_run()

    first = Job("first", pool).result(poll_delay=POLL)
    if hook == "on_job_start":
        with pytest.raises(LookupError, match="the hook's own"):
            await first
    else:
        assert await first == 42
    assert "the hook's own" in caplog.text
    assert await Job("second", pool).result(poll_delay=POLL) == 42


async def test_a_job_that_is_cancelled_in_its_end_hook_has_ended(
    pool: ArqRedis, make: Make
) -> None:
    reached = asyncio.Event()

    async def slow(ctx: dict[str, Any]) -> None:
        reached.set()
        await asyncio.sleep(3600)

    made = await enqueued(pool, "answer")
    worker = make(answer, on_job_end=slow)
    running = asyncio.create_task(worker.async_run())
    await reached.wait()

    await worker.close()

    assert await made.result(poll_delay=POLL) == 42
    await asyncio.gather(running, return_exceptions=True)


async def test_a_result_to_be_kept_for_less_than_a_millisecond_is_not_kept(
    client: Redis, pool: ArqRedis, make: Make
) -> None:
    made = await enqueued(pool, "answer")

    await make(answer, burst=True, keep_result=0.0001).async_run()

    assert await client.exists(keys.result(made.job_id), keys.IO_QUEUE) == 0


async def test_a_result_to_be_kept_for_longer_than_the_server_can_count_is_kept(
    pool: ArqRedis, make: Make
) -> None:
    # The server refused it again and again, and with it all that other jobs had to tell.
    made = [await enqueued(pool, name) for name in ("answer", "kept")]
    kept = arq.func(answer, name="kept", keep_result=1e17)
    worker = make(answer, kept, burst=True)

    await asyncio.wait_for(worker.async_run(), 10)

    assert [await one.result(timeout=1, poll_delay=POLL) for one in made] == [42, 42]


@pytest.mark.parametrize("hook", ["on_job_end", "after_job_end"])
async def test_no_more_hooks_run_at_once_than_there_are_slots(
    pool: ArqRedis, make: Make, hook: str
) -> None:
    """An application has as many connections to its database, say, as its worker has slots."""
    running = most = 0

    async def slow(ctx: dict[str, Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):
            await pool.ping()
        running -= 1

    for _ in range(10):
        await enqueued(pool, "answer")

    await make(answer, burst=True, max_jobs=2, **{hook: slow}).async_run()

    assert most == 2


async def test_a_worker_of_very_many_slots_fills_them_all(pool: ArqRedis, make: Make) -> None:
    """One claim is for a thousand jobs at the most; the others waited for the next poll."""
    jobs, all_began = asyncio.Semaphore(1_100), asyncio.Event()

    async def together(ctx: dict[str, Any]) -> None:
        await jobs.acquire()
        if jobs.locked():
            all_began.set()
        await all_began.wait()

    for _ in range(1_100):
        await enqueued(pool, "together")
    function = arq.func(together, name="together")
    worker = make(function, burst=True, max_jobs=2_000, poll_delay=3600)

    async with asyncio.timeout(30):
        await worker.async_run()

    assert worker.jobs_complete == 1_100


# -- Leases --


async def test_an_attempt_that_lost_its_lease_is_stopped_and_changes_nothing(
    client: Redis, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    began = asyncio.Event()
    worker = make(wait_long, ctx={"began": began}, lease=0.5)
    made = await enqueued(pool, "wait_long")
    running = asyncio.create_task(worker.async_run())
    await began.wait()

    await client.set(keys.in_progress(made.job_id), b"another's", px=60_000)

    async def stopped() -> bool:
        return not worker.tasks

    await wait_until(stopped, "the end of the attempt")
    assert "lost the lease of job" in caplog.text
    assert await client.get(keys.in_progress(made.job_id)) == b"another's"
    assert await client.zscore(keys.IO_QUEUE, made.job_id) is not None
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 0, 0)
    running.cancel()


async def test_the_outcome_of_an_attempt_that_lost_its_lease_unnoticed_is_refused(
    client: Redis, pool: ArqRedis, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def steal(ctx: dict[str, Any]) -> int:
        await client.set(keys.in_progress(ctx["job_id"]), b"another's", px=60_000)
        return 1

    after: list[str] = []

    async def after_job_end(ctx: dict[str, Any]) -> None:
        after.append(ctx["job_id"])

    made = await enqueued(pool, "steal")
    worker = make(arq.func(steal, name="steal"), after_job_end=after_job_end)
    running = asyncio.create_task(worker.async_run())

    async def refused() -> bool:
        return "1 outcomes refused" in caplog.text

    await wait_until(refused, "the refusal")
    assert await client.exists(keys.result(made.job_id)) == 0
    assert await client.exists(keys.job(made.job_id)) == 1
    assert after == []  # it says that a result is recorded
    running.cancel()


async def test_what_a_cancelled_claim_brought_is_given_back(
    client: Redis, pool: ArqRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()
    worker = make(answer)
    await enqueued(pool, "answer", _job_id="one")
    worker._pool = pool
    worker._open()
    store = worker._store
    assert store is not None
    claim = store.claim

    async def late(*arguments: Any) -> Any:
        claimed = await claim(*arguments)
        asked.set()
        await answered.wait()
        return claimed

    monkeypatch.setattr(store, "claim", late)
    polling = asyncio.create_task(worker._poll_iteration())
    await asked.wait()
    assert await client.exists(keys.in_progress("one")) == 1

    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    answered.set()

    async def given_back() -> bool:
        return not await client.exists(keys.in_progress("one"), keys.retry("one"))

    await wait_until(given_back, "the job's release")
    assert await Job("one", pool).status() is arq.jobs.JobStatus.queued


async def test_leases_are_renewed_by_the_loop_where_no_thread_can(
    broker: str, pool: ArqRedis, make: Make
) -> None:
    class Own(aio.UnixDomainSocketConnection):
        """A connection class of the application's own: a thread cannot have its like."""

    path = address.parse(broker).path
    own = ArqRedis(pool_or_conn=aio.ConnectionPool(connection_class=Own, path=path))
    went_on = asyncio.Event()

    async def outlive(ctx: dict[str, Any]) -> str:
        await went_on.wait()
        return "done"

    made = await enqueued(pool, "outlive")
    worker = make(arq.func(outlive, name="outlive"), redis_pool=own, lease=0.5)
    running = asyncio.create_task(worker.async_run())

    async def place() -> float:
        return await pool.zscore(keys.IO_QUEUE, made.job_id) or 0.0

    first = await place()

    async def renewed() -> bool:
        return await place() > first + 1_000

    await wait_until(renewed, "renewals by the loop")
    went_on.set()
    assert await made.result(timeout=5, poll_delay=POLL) == "done"
    running.cancel()


# -- Cron jobs and outages --


async def test_a_cron_job_that_could_not_be_enqueued_is_enqueued_later(
    make: Make, pool: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(cron_jobs=[cron(answer, hour=1, run_at_startup=True)], redis_pool=pool)
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    sent = pool.enqueue_job

    async def away(*arguments: Any, **options: Any) -> None:
        raise BrokerGone("away")

    monkeypatch.setattr(pool, "enqueue_job", away)
    with pytest.raises(BrokerGone):
        await worker.run_cron(now, 0.5)

    monkeypatch.setattr(pool, "enqueue_job", sent)
    await worker.run_cron(now, 0.5)

    assert await pool.zcard(keys.IO_QUEUE) == 1
    assert worker.cron_jobs[0].next_run == datetime(2026, 1, 2, 1, 0, 0, 123_456, tzinfo=UTC)
