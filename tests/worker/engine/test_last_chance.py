"""Jobs whose workers died: they run one at a time before they are given up."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

import worker.io
from tests.conftest import wait_until
from tests.worker.engine.conftest import Host
from tests.worker.engine.jobs import REGISTRY
from tests.worker.engine.queued import payload, put
from tests.worker.hosting import enqueue, outcomes
from twolane import dead, keys, runs
from twolane.store import Store


async def test_a_job_whose_workers_died_once_too_often_is_given_up(
    client: Redis, host: Host
) -> None:
    job_id = await put(client, payload("add", 1, 2))
    await client.set(keys.retry(job_id), 5)
    async with host():
        (one,) = await outcomes(client, "test")

    assert one.error is not None
    assert one.error.type == "TriesExhausted"
    assert one.try_ == 6
    assert await dead.ids(client) == [job_id]


async def test_jobs_at_their_last_chance_run_one_at_a_time(client: Redis, host: Host) -> None:
    # One of them killed its worker each time, and all that ran beside it were given up with it.
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    for number in range(3):
        await client.set(keys.retry(runs.job_id(run, number)), 4)
    async with host() as worker:
        await worker.wait_started()
        (tried,) = worker.started
        others = [one for n in range(3) if (one := runs.job_id(run, n)) != tried]

        async def handed_back() -> bool:
            return await client.mget(*map(keys.retry, others)) == [b"4", b"4"]

        await wait_until(handed_back, "the others' fifth try given back")
        fresh = await enqueue(client, REGISTRY, "add", {"left": 1, "right": 2})
        assert (await outcomes(client, fresh))[0].result == 3  # new jobs start beside it
        assert worker.started == [tried]
        worker.go.set()
        ended = await outcomes(client, run)

    assert [one.try_ for one in ended] == [5, 5, 5]
    assert all(one.success for one in ended)


async def test_what_is_handed_back_for_a_last_chance_is_back_before_it_begins(
    client: Redis, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first step of the one that runs may be the end of the process.
    run = await enqueue(client, REGISTRY, "wait_for_go", *[{}] * 3)
    for number in range(3):
        await client.set(keys.retry(runs.job_id(run, number)), 4)
    seen: list[bool] = []
    start = worker.io.IoLane.start

    def look_and_start(self: Any, attempt: Any) -> None:
        seen.append(len(told) == 2)
        start(self, attempt)

    told: list[str] = []
    exchange = Store.exchange

    async def note(self: Store, queue: str, report: Any, request: Any) -> Any:
        answer = await exchange(self, queue, report, request)
        told.extend(one[0] for one in report.releases)
        return answer

    monkeypatch.setattr(worker.io.IoLane, "start", look_and_start)
    monkeypatch.setattr(Store, "exchange", note)

    async with host() as hosted_worker:
        await hosted_worker.wait_started()
        hosted_worker.go.set()
        await outcomes(client, run)

    assert seen[0]


async def test_a_job_whose_own_retries_take_it_far_is_not_held_up(
    client: Redis, host: Host
) -> None:
    run = await enqueue(client, REGISTRY, "wait_with_retries", *[{}] * 3)
    for number in range(3):
        await client.set(keys.retry(runs.job_id(run, number)), 5)

    async with host() as worker:
        await worker.wait_started(3)
        worker.go.set()
        ended = await outcomes(client, run)

    assert [one.try_ for one in ended] == [6, 6, 6]
