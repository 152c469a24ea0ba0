"""``worker.arq.Worker`` is made as ``arq.worker.Worker`` is, and stands in its place."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import arq
import arq.worker
import pytest
from arq.connections import ArqRedis
from arq.jobs import Job

from tests.worker.arq.conftest import POLL, answer, enqueued, settings_of
from worker.arq import Worker, create_worker


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
