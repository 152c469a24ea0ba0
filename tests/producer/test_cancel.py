"""Cancelling: what waits never starts, what runs is put to its worker."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from producer.cancel import cancel_jobs, cancel_run
from producer.collect import follow
from producer.submit import Caller, submit
from tests.producer.making import claim, settle, succeeded
from twolane import keys, runs
from twolane.errors import UnknownRun
from twolane.registry import SHIPPED_JOBS, Registry


async def submitted(client: Redis, count: int = 3) -> None:
    """A run of as many jobs on each lane."""
    caller = Caller(Registry.load([SHIPPED_JOBS]))
    io = caller.call("query", {"rows": 1})
    cpu = caller.call("count_primes", {"low": 0, "high": 10})
    await submit(client, [io] * count + [cpu] * count, "mixed", "run")


async def test_what_waits_on_either_lane_is_settled_as_cancelled(client: Redis) -> None:
    await submitted(client)

    assert await cancel_run(client, "run") == (6, 0)

    assert await claim(client) == await claim(client, "cpu") == []
    collected = await follow(client, "run", timeout=30)
    assert collected.run.cancelled == 6
    assert {(one.cancelled, one.success, one.try_) for one in collected.outcomes} == {
        (True, False, 0)
    }
    assert collected.by_lane == {"io": 3, "cpu": 3}
    assert [one.error for one in collected.outcomes] == [None] * 6


async def test_a_cancelled_job_keeps_its_name_and_arguments(client: Redis) -> None:
    await submitted(client, 1)

    await cancel_run(client, "run")

    found = {one.function: one for one in (await follow(client, "run", timeout=30)).outcomes}
    assert found["count_primes"].kwargs == {"low": 0, "high": 10}
    assert found["query"].wait_ms >= 0


async def test_what_runs_is_asked_of_its_worker_and_stays_its_own(client: Redis) -> None:
    await submitted(client)
    running = await claim(client, count=1)

    assert await cancel_run(client, "run") == (5, 1)

    assert await client.zrange(keys.ABORTS, 0, -1) == [running[0].id.encode()]
    assert (await runs.get(client, "run")).waiting == 1


async def test_what_is_done_already_is_left_alone(client: Redis) -> None:
    await submitted(client, 1)
    await settle(client, await claim(client), succeeded(1))

    assert await cancel_run(client, "run") == (1, 0)

    run = await runs.get(client, "run")
    assert (run.done, run.cancelled, run.is_over) == (1, 1, True)


async def test_cancelling_twice_cancels_once(client: Redis) -> None:
    await submitted(client)
    await cancel_run(client, "run")

    assert await cancel_run(client, "run") == (0, 0)

    assert (await runs.get(client, "run")).cancelled == 6


async def test_single_jobs_are_cancelled_by_their_ids(client: Redis) -> None:
    await submitted(client)

    assert await cancel_jobs(client, ["run-0000001", "run-0000004", "no-such-job"]) == (2, 0)

    assert [one.id for one in await claim(client)] == ["run-0000000", "run-0000002"]
    assert [one.id for one in await claim(client, "cpu")] == ["run-0000003", "run-0000005"]


async def test_a_payload_that_cannot_be_decoded_is_cancelled_all_the_same(client: Redis) -> None:
    await submitted(client, 1)
    await client.set(keys.job("run-0000000"), b"\xc1not a payload")

    assert await cancel_jobs(client, ["run-0000000"]) == (1, 0)

    assert await claim(client) == []


async def test_more_jobs_than_one_call_takes(client: Redis) -> None:
    await submitted(client, 700)

    assert await cancel_run(client, "run") == (1_400, 0)

    assert (await runs.get(client, "run")).cancelled == 1_400


async def test_an_unknown_run_is_refused(client: Redis) -> None:
    with pytest.raises(UnknownRun, match="'nope'"):
        await cancel_run(client, "nope")
