"""Following a run: it ends when all has settled, and loses nothing on the way."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as BrokerConnectionError

import producer.collect
from producer.collect import Collected, collect, follow
from producer.submit import Caller, submit
from tests.conftest import wait_until
from tests.producer.making import claim, failed, settle, succeeded
from twolane import keys, runs
from twolane.errors import JobsLost, RemoteError, UnknownRun, WaitTimeout
from twolane.registry import SHIPPED_JOBS, Registry
from twolane.runs import Run
from twolane.store import Store


async def submitted(client: Redis, count: int, name: str = "run") -> Run:
    call = Caller(Registry.load([SHIPPED_JOBS])).call("query", {"rows": 1})
    return await submit(client, [call] * count, "query", name)


async def is_reading(client: Redis) -> bool:
    """Whether somebody waits for news of a stream."""
    return (await client.info("clients"))["blocked_clients"] > 0


async def test_a_run_is_followed_to_its_end_as_it_grows(client: Redis) -> None:
    await submitted(client, 5)
    seen: list[int] = []
    following = asyncio.create_task(
        follow(client, "run", timeout=30, on_progress=lambda found: seen.append(len(found)))
    )

    for _ in range(5):
        await settle(client, await claim(client, count=1), succeeded({"sum": 1}))
        count = len((await collect(client, "run")).outcomes)
        await wait_until(partial(seen.__contains__, count), f"{count} outcomes seen")
    collected = await following

    assert seen == sorted(seen)
    assert seen[-1] == 5
    assert collected.run.is_over
    assert collected.by_lane == {"io": 5}
    assert [one.result for one in collected.outcomes] == [{"sum": 1}] * 5


async def test_a_run_that_is_over_is_told_at_once(client: Redis) -> None:
    await submitted(client, 2_500)
    for _ in range(3):
        await settle(client, await claim(client), succeeded())

    collected = await follow(client, "run", timeout=30)

    assert len(collected) == 2_500
    assert collected.run.done == 2_500


async def test_failures_come_with_their_type_and_message(client: Redis) -> None:
    await submitted(client, 1)
    await settle(client, await claim(client), failed("no such row"))

    (one,) = (await follow(client, "run", timeout=30)).outcomes

    assert isinstance(one.error, RemoteError)
    assert (one.error.type, one.error.message) == ("ValueError", "no such row")


async def test_the_time_for_waiting_ends_and_the_run_goes_on(client: Redis) -> None:
    await submitted(client, 3)
    await settle(client, await claim(client, count=1), succeeded())

    with pytest.raises(WaitTimeout, match=r"1 of 3 jobs done .*`twolane runs show run --wait`"):
        await follow(client, "run", timeout=0.2)

    assert (await runs.get(client, "run")).waiting == 2


async def test_the_time_for_waiting_ends_although_the_broker_says_nothing(client: Redis) -> None:
    await submitted(client, 1)
    silent = client.__class__(connection_pool=client.connection_pool)

    async def xread(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    silent.xread = xread

    with pytest.raises(WaitTimeout):
        await follow(silent, "run", timeout=0.2)


async def test_idleness_is_told_of(client: Redis) -> None:
    await submitted(client, 1)
    idle: asyncio.Queue[Collected] = asyncio.Queue()

    following = asyncio.create_task(follow(client, "run", timeout=30, on_idle=idle.put))
    await idle.get()
    await settle(client, await claim(client), succeeded())

    assert (await following).run.is_over


async def test_an_unknown_run_is_refused(client: Redis) -> None:
    with pytest.raises(UnknownRun, match="no run is named 'nope'"):
        await follow(client, "nope")
    with pytest.raises(UnknownRun, match="no run is named 'nope'"):
        await collect(client, "nope")


async def test_a_run_that_is_deleted_meanwhile_ends_the_wait(client: Redis) -> None:
    await submitted(client, 2)
    await settle(client, await claim(client, count=1), succeeded())
    following = asyncio.create_task(follow(client, "run", timeout=30))
    await wait_until(lambda: is_reading(client), "the wait for news")

    await client.delete(keys.run("run"), keys.run_outcomes("run"))

    with pytest.raises(UnknownRun, match=r"gone from the broker.*1 of 2 outcomes had come"):
        await following


async def test_jobs_whose_queue_was_deleted_are_told_of_when_the_others_are_done(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for such a run waited for good."""
    monkeypatch.setattr(producer.collect, "PATIENCE_MS", 20)
    await submitted(client, 5)
    await settle(client, await claim(client, count=1), succeeded())
    running = await claim(client, count=1)
    idle: asyncio.Queue[Collected] = asyncio.Queue()

    await client.delete(keys.IO_QUEUE)
    following = asyncio.create_task(follow(client, "run", timeout=30, on_idle=idle.put))
    for _ in range(2 * producer.collect.PATIENCE):
        await idle.get()
    assert not following.done()  # one of them runs still
    await settle(client, running, succeeded())

    with pytest.raises(JobsLost, match=r"3 of its 5 jobs will never run.*\(2 have settled\)"):
        await following


async def test_outcomes_that_were_deleted_are_told_of(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer.collect, "PATIENCE_MS", 20)
    await submitted(client, 5)
    await settle(client, await claim(client), succeeded())
    await client.delete(keys.run_outcomes("run"))

    with pytest.raises(JobsLost, match=r"5 outcomes of 5 cannot be read"):
        await follow(client, "run", timeout=30)


async def test_a_run_whose_jobs_wait_for_a_worker_is_waited_for(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer.collect, "PATIENCE_MS", 20)
    await submitted(client, 5)

    with pytest.raises(WaitTimeout):
        await follow(client, "run", timeout=1)


async def test_large_results_are_completed_from_their_keys(client: Redis) -> None:
    await submitted(client, 3)
    large = "x" * 10_000
    await settle(client, await claim(client), succeeded(large))
    _, entries = await runs.read(client, "run")
    assert [one.partial for one in entries] == [True] * 3
    assert [one.result for one in entries] == [None] * 3

    collected = await follow(client, "run", timeout=30)

    assert [one.result for one in collected.outcomes] == [large] * 3
    assert [one.kwargs for one in collected.outcomes] == [{"rows": 1}] * 3


async def test_a_large_result_that_has_expired_is_counted_and_stays_partial(client: Redis) -> None:
    await submitted(client, 1)
    await settle(client, await claim(client), succeeded("x" * 10_000))
    await client.delete(keys.result("run-0000000"))

    (one,) = (await follow(client, "run", timeout=30)).outcomes

    assert (one.partial, one.success, one.result) == (True, True, None)


async def test_a_revived_dead_letter_counts_once_by_its_later_outcome(client: Redis) -> None:
    await submitted(client, 2)
    await settle(client, await claim(client), failed())
    assert (await follow(client, "run", timeout=30)).run.failed == 2

    assert await Store(client).revive(["run-0000000", "run-0000001"]) == []
    assert not (await runs.get(client, "run")).is_over
    await settle(client, await claim(client), succeeded(7))
    collected = await follow(client, "run", timeout=30)

    assert (collected.run.done, collected.run.failed) == (2, 0)
    assert [one.result for one in collected.outcomes] == [7, 7]
    assert collected.by_lane == {"io": 2}


async def test_an_outage_between_the_stream_and_the_results_loses_no_outcome(
    client: Redis,
) -> None:
    """The position in the stream was moved on before the large results were read. When the broker
    went away in between, those outcomes were never seen again, and the wait had no end."""
    await submitted(client, 1)
    await settle(client, await claim(client), succeeded("x" * 10_000))
    flaky: Any = client.__class__(connection_pool=client.connection_pool)
    failures = [BrokerConnectionError("gone")]

    async def mget(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await client.mget(*args)

    flaky.mget = mget

    collected = await follow(flaky, "run", timeout=10)

    assert failures == []
    assert [one.result for one in collected.outcomes] == ["x" * 10_000]


async def test_collecting_does_not_wait(client: Redis) -> None:
    await submitted(client, 3)
    await settle(client, await claim(client, count=2), succeeded("x" * 5_000))

    collected = await collect(client, "run")

    assert len(collected) == 2
    assert not collected.run.is_over
    assert collected.outcomes[0].result == "x" * 5_000
