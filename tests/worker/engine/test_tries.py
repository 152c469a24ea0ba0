"""How often a failing job is tried, and where it ends."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.engine.jobs import FOREVER, REGISTRY
from tests.worker.engine.queued import leases, one_outcome, run_outcomes
from tests.worker.hosting import HostedWorker, enqueue, hosted, outcomes, registry_of
from twolane import dead, job, keys, runs, wire
from twolane.registry import Backoff
from twolane.store import Store


async def test_a_failing_job_gets_its_retries_and_its_record_counts_them(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=3)

    assert one.success
    assert (one.result, one.try_) == (3, 3)
    assert running.engine.jobs_retried == 2


async def test_a_job_out_of_retries_is_a_dead_letter_with_its_payload(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=9)

    assert not one.success
    assert one.try_ == 3
    assert one.error is not None
    assert (one.error.type, one.error.message) == ("ValueError", "try 3")
    assert "in fail_until" in one.error.traceback
    kept = wire.load_payload(await client.hget(keys.dead(one.id), "payload"))
    assert wire.loads(kept.kwargs) == {"good_try": 9}
    (letter,) = [letter async for letter in dead.letters(client, [one.id])]
    assert (letter.error, letter.tries, letter.run) == ("ValueError", 3, one.run)


async def test_a_dead_letter_that_is_revived_gets_a_fresh_set_of_tries(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=9)

    assert await Store(client).revive([one.id]) == []
    assert one.run is not None
    again = (await outcomes(client, one.run))[0]

    async def twice() -> bool:
        return len(await run_outcomes(client, one.run or "")) == 2

    await wait_until(twice, "the second outcome")
    assert again.try_ == 3
    assert await dead.ids(client) == [one.id]


async def test_the_wait_before_a_retry_grows(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(retries=4, backoff=Backoff(base=1.0, factor=10.0, ceiling=1e6))
    async def fail() -> None:
        raise ValueError

    registry, waits = registry_of([fail]), []
    async with hosted(broker, client, registry) as worker:
        retry = worker.engine.acknowledger.retry

        def retry_at_once(job_id: str, fence: bytes, delay_ms: int) -> None:
            waits.append(delay_ms)
            retry(job_id, fence, 0)

        monkeypatch.setattr(worker.engine.acknowledger, "retry", retry_at_once)
        await outcomes(client, await enqueue(client, registry, "fail"))

    assert len(waits) == 4
    assert all(500 * 10**n <= wait <= 1000 * 10**n for n, wait in enumerate(waits)), waits


async def test_arqs_retry_is_honoured_beyond_the_jobs_own_retries(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "ask_for_another_try", until=3, defer=0.01)

    assert (one.result, one.try_) == (3, 3)


async def test_arqs_retry_waits_for_as_long_as_it_says(
    client: Redis, running: HostedWorker
) -> None:
    run = await enqueue(client, REGISTRY, "ask_for_another_try", {"until": 2, "defer": FOREVER})
    await running.wait_started()

    async def due() -> float | None:
        return (
            None if await leases(client) else await client.zscore(keys.IO_QUEUE, f"{run}-0000000")
        )

    seconds, _ = await client.time()
    left = await wait_until(due, "the job back in the queue") / 1000 - seconds
    assert FOREVER - 10 < left <= FOREVER + 1


@pytest.mark.parametrize(
    ("function", "arguments", "tries"),
    [("ask_for_another_try", {"until": 99, "defer": 0.0}, 5), ("ask_more_often", {}, 8)],
)
async def test_arqs_retry_is_limited(
    client: Redis, running: HostedWorker, function: str, arguments: dict[str, Any], tries: int
) -> None:
    one = await one_outcome(client, function, **arguments)

    assert not one.success
    assert one.try_ == tries
    assert one.error is not None
    assert one.error.type == "Retry"
    assert await dead.ids(client) == [one.id]


async def test_a_job_that_fails_has_one_outcome_in_its_runs_totals(
    client: Redis, running: HostedWorker
) -> None:
    one = await one_outcome(client, "fail_until", good_try=9)

    assert one.run is not None
    run = await runs.get(client, one.run)
    assert (run.done, run.failed, run.cancelled) == (0, 1, 0)
