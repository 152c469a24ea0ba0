"""What a server refuses, and what comes late, costs the job that it is about and no other."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from time import monotonic
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokerConnectionError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as BrokerTimeoutError

from tests.conftest import wait_until
from tests.worker.hosting import enqueue, hosted, outcomes, registry_of
from twolane import job, keys, runs, wire
from twolane.store import Claim, Exchanged, NewJob, Report, Request, Store
from worker import backoff
from worker.backoff import Reconnection
from worker.exchange import CONVERSATIONS

_ran: Counter[int] = Counter()


@job
async def fine(ctx: dict[str, Any]) -> None:
    pass


@job
async def hold(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    await ctx["go"].wait()


@job(keep_result=sys.maxsize)
async def kept_too_long() -> None:
    pass


@job
async def count(number: int) -> None:
    _ran[number] += 1


async def test_a_result_kept_for_longer_than_the_server_can_count_is_recorded(
    broker: str, client: Redis
) -> None:
    registry = registry_of([fine, kept_too_long])
    async with hosted(broker, client, registry):
        bad = await enqueue(client, registry, "kept_too_long")
        good = await enqueue(client, registry, "fine", *[{}] * 100)

        assert [one.success for one in await outcomes(client, bad)] == [True]
        assert all(one.success for one in await outcomes(client, good))


async def test_a_payload_of_another_type_fails_its_job_alone(broker: str, client: Redis) -> None:
    registry = registry_of([fine])
    await client.zadd(keys.IO_QUEUE, {"odd": 1})
    await client.rpush(keys.job("odd"), "not a string")
    async with hosted(broker, client, registry):
        run = await enqueue(client, registry, "fine", *[{}] * 100)

        assert all(one.success for one in await outcomes(client, run))

    assert await client.zscore(keys.DEAD, "odd") is not None


async def test_a_job_that_names_another_key_as_its_run_takes_no_run_with_it(
    broker: str, client: Redis
) -> None:
    registry = registry_of([fine])
    store = Store(client)
    old = await enqueue(client, registry, "fine")
    call = {"t": None, "f": "fine", "a": [], "k": {}, "et": 1, "run": f"{old}:outcomes"}
    async with hosted(broker, client, registry):
        await outcomes(client, old)
    await store.enqueue_many(keys.IO_QUEUE, [NewJob("bad", wire.dumps(call))])
    innocent = [await enqueue(client, registry, "fine") for _ in range(4)]

    async with hosted(broker, client, registry):
        for one in innocent:
            await outcomes(client, one)

    assert all([(await runs.get(client, one)).is_over for one in innocent])


async def test_outcomes_that_the_server_refuses_do_not_pile_up(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Claims went on while outcomes were refused: the whole queue ran, and nothing was recorded.
    monkeypatch.setattr(backoff, "RECONNECT", backoff.Backoff(base=0.01, factor=1.0, ceiling=0.01))
    registry = registry_of([fine])
    refusing, refusals, most = True, 0, 0
    async with hosted(broker, client, registry, slots=10) as worker:
        exchange = worker.engine.store.exchange

        async def refuse(queue: str, report: Report, *rest: Any) -> Exchanged:
            nonlocal refusals, most
            if not refusing or not report:
                return await exchange(queue, report, *rest)
            answer = await exchange(queue, Report(), *rest)
            most = max(most, len(worker.engine.held()))
            refusals += most >= 4 * 10 - CONVERSATIONS * 5
            return answer._replace(untold=report, error=OutOfMemoryError("OOM"))

        monkeypatch.setattr(worker.engine.store, "exchange", refuse)
        run = await enqueue(client, registry, "fine", *[{}] * 500)

        async def refused_often() -> bool:
            return refusals >= 20

        await wait_until(refused_often, "20 refusals with as much untold as there may be")
        assert most <= 4 * 10

        refusing = False
        assert all(one.success for one in await outcomes(client, run))


async def test_jobs_whose_leases_ended_before_the_answer_was_read_run_once(
    broker: str,
    client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A job had held the loop. They ran under dead leases, were refused, and ran again.
    _ran.clear()
    registry = registry_of([count])
    async with hosted(broker, client, registry, lease_ms=200) as worker:
        exchange = worker.engine.store.exchange
        late: list[str] = []
        times = 0
        read = asyncio.Event()

        async def leases_ended() -> bool:
            return not await client.exists(*map(keys.in_progress, late))

        async def read_late(*args: Any) -> Exchanged:
            answer = await exchange(*args)
            nonlocal times
            if answer.claim and answer.claim.jobs and times < 2:
                times += 1
                late.extend(one.id for one in answer.claim.jobs)
                await wait_until(leases_ended, "the end of their leases")
                if times == 2:
                    read.set()
            return answer

        monkeypatch.setattr(worker.engine.store, "exchange", read_late)
        run = await enqueue(client, registry, "count", *[{"number": n} for n in range(10)])
        await outcomes(client, run)
        await asyncio.wait_for(read.wait(), 10)
        await worker.engine.exchange.wait_quiet()

    assert late
    assert _ran == Counter(range(10))
    said = [one for one in caplog.messages if "start the worker with a longer --lease" in one]
    assert len(said) == 1
    assert re.match(
        r"\d+ jobs came \d+\.\d s after .* when their leases of 0\.2 s had ended", said[0]
    )


async def test_jobs_that_come_a_part_of_a_millisecond_after_their_leases_are_handed_back(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The time they had taken was rounded down to that of the lease, and they ran twice.
    registry = registry_of([fine])
    async with hosted(broker, client, registry, lease_ms=10_000) as worker:
        answered = worker.engine.answered
        late: list[Request] = []

        def answered_late(request: Request, claim: Claim | None) -> None:
            if claim and claim.jobs and not late:
                late.append(request)
                request = request._replace(asked_at=monotonic() - 10.0003)
            answered(request, claim)

        monkeypatch.setattr(worker.engine, "answered", answered_late)
        await outcomes(client, await enqueue(client, registry, "fine"))

    assert [one for one in caplog.messages if "they are handed back" in one]


async def test_jobs_run_although_each_answer_takes_longer_than_the_lease(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each claim came too late and cost a try; in the end they were given up without having run.
    _ran.clear()
    registry = registry_of([count])
    # Before the worker starts: from an empty answer it would learn how slow the answers are.
    run = await enqueue(client, registry, "count", *[{"number": n} for n in range(10)])
    async with hosted(broker, client, registry, lease_ms=10_000) as worker:
        exchange, answered = worker.engine.store.exchange, worker.engine.answered
        too_late = 0

        async def far_away(queue: str, report: Report, request: Request | None) -> Exchanged:
            nonlocal too_late
            answer = await exchange(queue, report, request)
            if request and request.lease_ms < 14_000 and answer.claim and answer.claim.jobs:
                too_late += 1
                ids = [one.id for one in answer.claim.jobs]
                await client.delete(*map(keys.in_progress, ids))
                await client.zadd(queue, dict.fromkeys(ids, answer.claim.now_ms), xx=True)
            return answer

        def answered_far_away(request: Request, claim: Claim | None) -> None:
            answered(request._replace(asked_at=request.asked_at - 14), claim)

        monkeypatch.setattr(worker.engine.store, "exchange", far_away)
        monkeypatch.setattr(worker.engine, "answered", answered_far_away)
        ended = await outcomes(client, run)

    assert too_late
    assert _ran == Counter(range(10))
    assert max(one.try_ for one in ended) < 4


def test_an_answer_that_does_not_come_in_time_is_told_with_what_helps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A claim that takes longer than a reply is waited for brings nothing, however often."""
    for error in (BrokerTimeoutError(), TimeoutError(), BrokerConnectionError()):
        Reconnection("claiming jobs", 15.0).next_wait(error)

    slow = "TimeoutError: no answer within 15 s; a longer --lease waits longer"
    assert caplog.messages == [
        f"broker away while claiming jobs ({why}); trying again"
        for why in (slow, slow, "ConnectionError")
    ]


async def test_a_job_in_a_burst_that_cannot_be_told_does_not_keep_the_worker(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of([fine])
    async with hosted(broker, client, registry, burst=True) as worker:
        quiet = asyncio.Event()  # never: the broker is away with an outcome untold

        async def wait_quiet() -> None:
            await quiet.wait()

        async def is_waiting() -> bool:
            return not worker.engine._dry.is_set()

        monkeypatch.setattr(worker.engine.exchange, "wait_quiet", wait_quiet)
        await wait_until(is_waiting, "the end of the burst")
        worker.engine.drain()

        assert worker.main is not None
        await asyncio.wait_for(worker.main, 10)
        quiet.set()


async def test_jobs_that_come_late_in_their_leases_have_them_renewed_at_once(
    broker: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The next renewal was a quarter of the lease away: it had ended, and another worker ran them.
    registry = registry_of([hold])
    asked_at: dict[str, float] = {}
    async with hosted(broker, client, registry, lease_ms=40_000) as worker:
        exchange = worker.engine.store.exchange

        async def late(queue: str, report: Report, request: Request | None) -> Exchanged:
            answer = await exchange(queue, report, request)
            if answer.claim is not None and answer.claim.jobs:
                # What nine tenths of the lease leave behind, without waiting for them.
                assert request is not None
                end_ms = answer.claim.now_ms + 4_000
                for one in answer.claim.jobs:
                    await client.pexpire(keys.in_progress(one.id), 4_000)
                    await client.zadd(keys.IO_QUEUE, {one.id: end_ms})
                asked_at[request.fence] = monotonic() - 36
            return answer

        answered = worker.engine.answered

        def answered_late(request: Request, claim: Claim | None) -> None:
            if request.fence in asked_at:
                request = request._replace(asked_at=asked_at[request.fence])
            answered(request, claim)

        monkeypatch.setattr(worker.engine.store, "exchange", late)
        monkeypatch.setattr(worker.engine, "answered", answered_late)
        run = await enqueue(client, registry, "hold")
        await worker.wait_started()
        lease = keys.in_progress(worker.started[0])
        fence = await client.get(lease)
        async with hosted(broker, client, registry, lease_ms=40_000) as other:

            async def is_renewed() -> bool:
                left_ms = await client.pttl(lease)
                assert await client.get(lease) == fence, "its lease ended"
                return int(left_ms) > 4_000

            await wait_until(is_renewed, "the renewal of the lease")
            worker.go.set()
            (ended,) = await outcomes(client, run)

    assert ended.try_ == 1
    assert len(worker.started + other.started) == 1
