"""Open loads: when jobs are sent, from when their times count, and what theory says of them."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from statistics import fmean, pstdev

import pytest
from redis.asyncio import Redis

from producer import queueing, sizing
from producer.comparison import Quantiles
from producer.crews import private_broker
from producer.load_meter import Busy
from producer.local import LocalFleet
from producer.open_load import Load, _Summary, apply, schedule
from producer.sizing import Service
from producer.submit import Caller
from tests.conftest import wait_until
from tests.producer.laboratory import loaded
from tests.producer.making import START_MS, beat, claim, made, settle, succeeded
from twolane import queues, runs
from twolane.errors import JobsFailed, RemoteError
from twolane.registry import Registry

BUSY = Busy(1.0, 4, 4, 0.1, 0.1, {})
CALLER = Caller(Registry.load(["twolane.jobs", "tests.producer.model_jobs"]))


def test_constant_arrivals_are_evenly_spaced() -> None:
    found = list(schedule(Load(10, 1.0, "constant"), random.Random(1)))

    assert found == pytest.approx([number / 10 for number in range(10)])


def test_poisson_arrivals_have_exponential_gaps_of_the_right_mean() -> None:
    found = list(schedule(Load(100, 200.0, "poisson"), random.Random(1)))

    gaps = [after - before for before, after in pairwise(found)]
    assert fmean(gaps) == pytest.approx(0.01, rel=0.03)
    assert pstdev(gaps) == pytest.approx(0.01, rel=0.03), "as long as their mean: exponential"
    assert found == sorted(found)
    assert found[-1] < 200


def test_the_same_seed_draws_the_same_arrivals() -> None:
    load = Load(10, 5.0)

    first, second = (list(schedule(load, random.Random(4))) for _ in range(2))

    assert first == second


def test_times_count_from_the_intended_send_time_and_not_from_the_sending() -> None:
    # Given jobs due at 0, 1 and 2 s, which started 50 ms after they were due, but for the last,
    # which a stall of the sender kept back by 3 s; its queue wait was nothing.
    due = [0.0, 1.0, 2.0]
    outcomes = [
        made(0, at=0.05, run_seconds=0.1),
        made(1, at=1.05, run_seconds=0.1),
        made(2, at=5.0, run_seconds=0.1, wait_ms=0.0),
    ]
    load = Load(1, 3.0, "constant", warm_up_seconds=0.5)

    summary = _Summary(load, START_MS, due, outcomes)
    found = summary.loaded([0.001], BUSY, 0)

    assert summary.waits == pytest.approx([0.05, 3.0])
    assert found.jobs == 2, "the first one is of the warm-up"
    assert found.latency.p99 == pytest.approx(3.1, abs=0.05)
    assert found.sent_rate == pytest.approx(2 / 2.5)
    assert found.completed_rate == pytest.approx(1 / 2.5), "one ended after the load's time"
    assert [second.sent for second in found.per_second] == [1, 1, 1]
    assert found.run_mean == pytest.approx(0.1)
    assert found.scv == pytest.approx(0)


def test_the_check_is_of_the_measured_run_times() -> None:
    found = sizing.check(loaded())

    assert found.predicted_p95 == queueing.wait(10, 151.0, 0.057, 0.25).quantile(0.95)
    assert found.measured_p95 == 0.055
    assert found.error == pytest.approx(found.predicted_p95 / 0.055 - 1)


def test_a_load_is_told_with_its_prediction() -> None:
    one = loaded()

    said = " ".join(sizing.tell_load(one, sizing.check(one)))

    assert "Of 151.0 jobs/s sent, 150.5 a second were done; 10 slots were 86% busy" in said
    assert "Queueing theory (M/G/c" in said
    assert "measured were 55.0 ms" in said


def test_an_overload_is_told_as_one() -> None:
    one = loaded()
    one.slots = 8
    one.unfinished = 12

    said = " ".join(sizing.tell_load(one, sizing.check(one)))

    assert "by Little's law that takes 8.6 slots, and there are 8." in said
    assert "the queue grew, and 12 jobs were left, which the waits shown are without" in said
    assert "%" not in said, "no slot is busy for more than all of the time"
    assert "Queueing theory" not in said


def test_a_late_sender_and_failures_are_told() -> None:
    one = loaded()
    one.late = Quantiles(0.1, 0.2, 0.3)
    one.failed = 7

    said = " ".join(sizing.tell_load(one, sizing.check(one)))

    assert "The sender was late by 300 ms for 1 job in 100" in said
    assert "7 of 1,359 jobs failed" in said


def test_a_load_of_failures_is_told_in_one_short_line() -> None:
    error = RemoteError("ValueError", "x" * 10_000, "")
    outcome = made(0, at=0.05, success=False, result=error)
    summary = _Summary(Load(1, 1.0, warm_up_seconds=0.0), START_MS, [0.0], [outcome])

    with pytest.raises(
        JobsFailed, match="none of 1 jobs of the load succeeded: ValueError: xxx"
    ) as raised:
        summary.loaded([0.001], BUSY, 0)

    assert len(str(raised.value)) < 400


def test_run_times_are_said_to_be_of_the_jobs_that_succeeded() -> None:
    one = loaded()
    one.failed = 359

    service = sizing.measured(one, 150)

    assert service.jobs == 1000
    assert service.source == "measured at 150/s; 359 jobs failed, whose times are left out"


def test_a_size_is_littles_law_with_a_reserve() -> None:
    service = Service(0.05, 1.0, 0, "given")

    one = sizing.answer(200, service, 2.0, 0.95, slots_per_worker=10, utilisation=0.8)

    assert (one.workers, one.slots, one.for_utilisation) == (2, 20, 13)  # 200 × 0.05 / 0.8
    assert one.utilisation == pytest.approx(0.5)
    said = " ".join(sizing.tell(one, service, "io"))
    assert "2 io workers of 10 slots each" in said
    assert "keep 10.0 slots busy on average (Little's law), 50% of 20" in said
    assert "the reserve decides" in said
    assert "With one worker less the queue would grow without end." in said


def test_a_tight_goal_decides_over_the_reserve() -> None:
    service = Service(0.05, 1.0, 0, "given")

    one = sizing.answer(200, service, 0.0, 0.999, slots_per_worker=1, utilisation=1.0)

    assert one.for_wait > one.for_utilisation
    assert one.workers == one.for_wait
    said = " ".join(sizing.tell(one, service, "io"))
    assert "the wait decides" in said
    assert "With one worker less the slots would be" in said


async def test_an_interrupted_load_leaves_no_job_to_the_workers(client: Redis) -> None:
    await beat(client, "cpu-1")
    call = CALLER.call("count_primes", {"low": 0, "high": 100})
    task = asyncio.create_task(apply(client, call, Load(500, 60.0), random.Random(1), {}))

    async def sent() -> bool:
        return (await queues.look(client, "cpu")).waiting > 10

    await wait_until(sent, "jobs that wait")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    depth = await queues.look(client, "cpu")
    assert (depth.waiting, depth.later) == (0, 0)
    (run,) = await runs.latest(client, 10)
    assert run.sealed


@pytest.mark.slow
async def test_a_real_load_is_sent_and_measured() -> None:
    async with private_broker() as (server, client):
        options = ["--concurrency=20", "--log-level=error", "--jobs=tests.producer.model_jobs"]
        async with LocalFleet(server.url, options, grace_seconds=1) as workers:
            await workers.start("io")
            await workers.wait_ready(client)
            found, outcomes, waits = await _apply(client)

    assert found.failed == found.unfinished == 0
    assert found.jobs == len(outcomes) == len(waits)
    assert found.sent_rate == pytest.approx(100, rel=0.05)
    assert (found.workers, found.slots) == (1, 20)
    assert 0 < found.run.p50 <= found.latency.p50
    assert len(found.per_second) == 2


@pytest.mark.slow
async def test_a_load_tells_of_each_second_and_of_the_jobs_that_are_left(client: Redis) -> None:
    """It told nothing while it waited: between two jobs, and for the last of them."""
    await beat(client, "cpu-1")
    call = CALLER.call("count_primes", {"low": 0, "high": 100})
    load = Load(1 / 3.9, 4.0, "constant", warm_up_seconds=0.0)
    told: list[tuple[int, int, str]] = []

    async def work() -> None:
        while True:
            await settle(client, await claim(client, "cpu"), succeeded(25), lane="cpu")
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work())
        await apply(
            client, call, load, random.Random(1), {}, lambda *progress: told.append(progress)
        )
        working.cancel()

    seconds = [done for done, of, what in told if (of, what) == (4, "seconds")]
    assert len(seconds) > 2, "more than at the two jobs"
    assert seconds == sorted(set(seconds))
    assert told[-1] == (2, 2, "jobs done")


async def _apply(client: Redis) -> tuple:
    call = CALLER.call("await_a_little", {})
    load = Load(100, 2.0, "constant", warm_up_seconds=0.5)
    return await apply(client, call, load, random.Random(1), {})
