"""The exchange: what ended and what is to do in one round trip, each part as if sent alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from twolane import keys, runs
from twolane import store as stores
from twolane.channel import Channel
from twolane.store import (
    ENQUEUE_BATCH,
    ClaimedJob,
    NewJob,
    Report,
    Request,
    Settlement,
    Store,
)

QUEUE = keys.IO_QUEUE
NOTHING = Report()


@pytest.fixture(params=["over a channel", "over the pool"])
async def store(client: Redis, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    channel = Channel(client) if request.param == "over a channel" else None
    yield Store(client, channel)
    if channel is not None:
        await channel.aclose()


def settlement(one: ClaimedJob, fence: bytes | None = None, keep_ms: int = 60_000) -> Settlement:
    return Settlement(one.id, fence or one.fence, b"result", keep_ms, "done", "work")


async def claimed(store: Store, *ids: str) -> list[ClaimedJob]:
    await store.enqueue_many(QUEUE, [NewJob(one, b"payload") for one in ids])
    return (await store.claim(QUEUE, "fence-0", len(ids), 60_000)).jobs


async def test_it_settles_gives_back_and_claims(store: Store) -> None:
    done, again, back = await claimed(store, "a", "b", "c")
    # The server knows the scripts: one that it has to be sent again comes after the others.
    await store.retry(QUEUE, [("nobody's", b"", 0)])
    await store.release(QUEUE, [("nobody's", b"", 0)])
    await store.enqueue_many(QUEUE, [NewJob("d", b"payload")])
    report = Report([settlement(done)], [("b", again.fence, 60_000)], [("c", back.fence, 0)])

    answer = await store.exchange(QUEUE, report, Request("fence-1", 10, 60_000))

    assert answer.claim is not None
    assert [(one.id, one.try_) for one in answer.claim.jobs] == [("c", 1), ("d", 1)]
    assert (answer.fenced, answer.untold, answer.error) == ([], NOTHING, None)
    assert await store.client.get(keys.result("a")) == b"result"
    assert await store.client.zrange(QUEUE, 0, -1) == [b"b", b"c", b"d"]


async def test_it_names_the_fenced_of_every_kind(store: Store) -> None:
    jobs = await claimed(store, "a", "b", "c")
    stale = b"another"
    report = Report([settlement(jobs[0], stale)], [("b", stale, 0)], [("c", stale, 0)])

    answer = await store.exchange(QUEUE, report, None)

    assert answer.fenced == ["a", "b", "c"]
    assert answer.claim is None
    assert not await store.client.exists(keys.result("a"))


async def test_more_than_a_batch_is_told_in_several_commands(store: Store) -> None:
    jobs = await claimed(store, *(f"{n:04}" for n in range(1_000)))

    answer = await store.exchange(QUEUE, Report([settlement(one) for one in jobs]), None)

    assert answer.fenced == []
    assert await store.client.zcard(QUEUE) == 0


async def test_the_scripts_are_sent_again_where_the_server_forgot_them(store: Store) -> None:
    [one] = await claimed(store, "a")
    await store.enqueue_many(QUEUE, [NewJob("b", b"payload")])
    await store.client.script_flush()

    answer = await store.exchange(QUEUE, Report([settlement(one)]), Request("fence-1", 10, 60_000))

    assert answer.claim is not None
    assert [one.id for one in answer.claim.jobs] == ["b"]
    assert await store.client.exists(keys.result("a"))


async def test_a_claim_stands_where_the_report_was_refused(store: Store) -> None:
    # What is refused (here: a time that is no number; in life: a server out of memory) comes back
    # to be told again, and the jobs that were claimed with it are not lost.
    one, two = await claimed(store, "a", "b")
    await store.enqueue_many(QUEUE, [NewJob("c", b"payload")])
    refused = settlement(one, keep_ms=-7)
    report = Report([refused], [("b", two.fence, 60_000)], [])

    answer = await store.exchange(QUEUE, report, Request("fence-1", 10, 60_000))

    assert isinstance(answer.error, ResponseError)
    assert answer.untold == Report([refused])
    assert answer.claim is not None
    assert [one.id for one in answer.claim.jobs] == ["c"]


async def test_the_same_report_twice_changes_nothing(store: Store) -> None:
    [one] = await claimed(store, "a")
    report = Report([settlement(one), settlement(one)])

    first = await store.exchange(QUEUE, report, None)
    second = await store.exchange(QUEUE, report, None)

    assert (first.fenced, second.fenced) == (["a"], ["a", "a"])
    assert await store.client.hget(keys.counters(QUEUE), "done") == b"1"


async def test_a_run_is_opened_filled_and_sealed_in_one_call(store: Store) -> None:
    await store.client.config_resetstat()
    jobs = {QUEUE: [NewJob("r-1", b"payload")]}

    opened = await store.enqueue_run("r", "test", jobs)
    taken = await store.enqueue_run("r", "test", {QUEUE: [NewJob("r-2", b"payload")]})

    assert opened is not None
    assert opened.accepted == 1
    assert taken is None
    run = await store.client.hgetall(keys.run("r"))
    assert run.pop(b"call")  # by which it knows a call that is sent again
    assert run == {
        b"kind": b"test", b"total": b"1", b"sealed": b"1",
        b"created_ms": str(opened.created_ms).encode(),
    }  # fmt: skip
    assert await store.client.zrange(QUEUE, 0, -1) == [b"r-1"]
    calls = await store.client.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 2


async def test_a_run_of_many_calls_is_sealed_by_the_last_one(store: Store) -> None:
    jobs = {
        queue: [NewJob(f"{queue}-{n}", b"payload") for n in range(2_500)]
        for queue in (keys.IO_QUEUE, keys.CPU_QUEUE)
    }

    opened = await store.enqueue_run("r", "test", jobs)

    assert opened is not None
    assert opened.accepted == 5_000
    assert await store.client.hmget(keys.run("r"), "total", "sealed") == [b"5000", b"1"]
    assert [await store.client.zcard(queue) for queue in jobs] == [2_500, 2_500]


async def test_a_run_without_jobs_is_opened_and_sealed(store: Store) -> None:
    opened = await store.enqueue_run("r", "test", {})

    assert opened is not None
    assert opened.accepted == 0
    assert await store.client.hget(keys.run("r"), "sealed") == b"1"


@pytest.mark.parametrize(
    ("due", "workers", "asked", "taken"),
    [(9, 3, 10, 3), (7, 3, 10, 3), (1, 3, 10, 1), (90, 3, 10, 10), (5, 1, 10, 5), (0, 3, 10, 0)],
)
async def test_a_worker_takes_its_share_of_what_is_due(
    store: Store, due: int, workers: int, asked: int, taken: int
) -> None:
    # The first to ask took all that it had slots for, and the others' slots stayed empty.
    await store.enqueue_many(QUEUE, [NewJob(f"{n:02}", b"payload") for n in range(due)])
    await store.enqueue_many(QUEUE, [NewJob("later", b"payload", delay_ms=60_000)])

    answer = await store.exchange(QUEUE, Report(), Request("fence", asked, 60_000, workers))

    assert answer.claim is not None
    assert len(answer.claim.jobs) == taken
    if taken < min(due, asked):  # it is to ask again soon: others may have no slots
        assert answer.claim.next_due_ms == answer.claim.now_ms
    elif due < asked:
        assert answer.claim.next_due_ms is not None
        assert answer.claim.next_due_ms > answer.claim.now_ms


async def test_a_claim_reads_hardly_more_payloads_than_it_carries(store: Store) -> None:
    # It read all that it might take: with large ones the server was held up for most of a second.
    await store.enqueue_many(QUEUE, [NewJob(f"{n:02}", b"x" * 6_000_000) for n in range(20)])
    await store.client.config_resetstat()

    claim = await store.claim(QUEUE, "fence", 20, 60_000)

    assert [one.id for one in claim.jobs] == ["00", "01"]
    assert (await store.client.info("stats"))["keyspace_hits"] < 15


async def test_a_claim_has_each_jobs_own_payload_and_try_where_it_reads_them_in_pieces(
    store: Store,
) -> None:
    sizes = [9_000_000, 1, 2, 6_000_000, 3, 4, 6_000_000, 5]
    await store.enqueue_many(
        QUEUE, [NewJob(f"{n}", f"{n}".encode() * size) for n, size in enumerate(sizes)]
    )
    await store.client.set(keys.retry("4"), 2)
    await store.client.delete(keys.job("1"))

    first = await store.claim(QUEUE, "first", 10, 60_000)
    second = await store.claim(QUEUE, "second", 10, 60_000)

    jobs = [*first.jobs, *second.jobs]
    assert [one.id for one in first.jobs] == ["0", "1", "2", "3", "4", "5"]
    assert [one.id for one in second.jobs] == ["6", "7"]
    assert [one.payload and (one.payload[:1], len(one.payload)) for one in jobs] == [
        None if n == 1 else (f"{n}".encode(), size) for n, size in enumerate(sizes)
    ]
    assert [one.try_ for one in jobs] == [1, 1, 1, 1, 3, 1, 1, 1]


async def test_a_payload_of_another_type_ends_no_claim(store: Store) -> None:
    await store.enqueue_many(QUEUE, [NewJob(f"{n}", b"x") for n in range(6)])
    await store.client.delete(keys.job("0"))
    await store.client.rpush(keys.job("0"), "not a payload")

    claim = await store.claim(QUEUE, "fence", 10, 60_000)

    assert [one.payload for one in claim.jobs] == [None, *[b"x"] * 5]


# --- a run that is given up half-way


def fail() -> None:
    raise ValueError("line 1201: no job")


def cancel() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def jobs_until(what: Callable[[], None]) -> Iterator[NewJob]:
    for number in range(2_000):
        if number == 1_200:
            what()
        yield NewJob(f"r-{number:04d}", b"payload")


@pytest.mark.parametrize(("what", "raised"), [(cancel, asyncio.CancelledError), (fail, ValueError)])
async def test_a_run_that_is_given_up_half_way_is_sealed_with_what_it_has(
    store: Store, what: Callable[[], None], raised: type[BaseException]
) -> None:
    # It stayed open, and who waited for it waited for good.
    with pytest.raises(raised):
        await asyncio.create_task(store.enqueue_run("r", "test", {QUEUE: jobs_until(what)}))

    found = await runs.get(store.client, "r")
    assert found.sealed
    assert found.total == await store.client.zcard(QUEUE) > 0


async def test_giving_up_does_not_seal_the_run_of_somebody_else(store: Store) -> None:
    await runs.create(store.client, "other", "r")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(store.enqueue_run("r", "test", {QUEUE: jobs_at_once()}))

    assert not (await runs.get(store.client, "r")).sealed


def jobs_at_once() -> Iterator[NewJob]:
    for number in range(600):
        yield NewJob(f"r-{number:04d}", b"payload")
    cancel()
    yield NewJob("r-0600", b"payload")


async def test_giving_up_does_not_wait_for_a_server_that_is_away(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = Store(client), asyncio.Event()

    async def away(*_: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stores, "GIVING_UP_SECONDS", 0.05)
    monkeypatch.setattr(store, "_call", away)
    jobs = [NewJob(f"r-{n}", b"") for n in range(ENQUEUE_BATCH + 1)]
    task = asyncio.create_task(store.enqueue_run("r", "test", {QUEUE: jobs}))
    await asked.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


# --- how many bytes at once


LARGE = b"x" * 6_000_000


async def test_large_outcomes_are_told_a_few_at_a_time() -> None:
    # 50 results of 16 MiB each were one packet, and a slow network never took it in time.
    outcomes = [Settlement(f"{n}", b"fence", LARGE, 0, "done", "work") for n in range(5)]
    report = Report(list(outcomes), [("retried", b"fence", 0)], [("released", b"fence", 0)])

    first, second, third = report.take(50), report.take(50), report.take(50)

    assert (first.settled, second.settled, third.settled) == (
        outcomes[:2], outcomes[2:4], outcomes[4:],
    )  # fmt: skip
    assert (len(first.retries), len(first.releases)) == (1, 1)
    assert not report


async def test_an_outcome_that_is_larger_than_a_call_is_told_alone() -> None:
    huge = Settlement("0", b"fence", LARGE * 3, 0, "done", "work")
    small = Settlement("1", b"fence", b"", 0, "done", "work")
    report = Report([huge, small])

    assert report.take(50).settled == [huge]
    assert report.take(50).settled == [small]


async def test_large_payloads_are_enqueued_a_few_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    call = store._call

    async def count(script: Any, keys_: Any, args: Any) -> Any:
        calls.append(sum(len(one) for one in args if isinstance(one, bytes)))
        return await call(script, keys_, args)

    monkeypatch.setattr(store, "_call", count)

    refused = await store.enqueue_many(QUEUE, [NewJob(f"{n}", LARGE) for n in range(5)])
    opened = await store.enqueue_run(
        "r", "test", {QUEUE: [NewJob(f"r-{n}", LARGE) for n in range(3)]}
    )

    assert refused == []
    assert opened is not None
    assert opened.accepted == 3
    assert calls == [12_000_000, 12_000_000, 6_000_000, 12_000_000, 6_000_000]
