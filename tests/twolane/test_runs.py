"""Runs: made, sealed, listed, read as they grow."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.conftest import wait_until
from twolane import keys, outcome, runs, wire
from twolane.errors import UndecodablePayload, UnknownRun, UsageError
from twolane.outcome import Outcome
from twolane.runs import Run
from twolane.store import RUN_TTL_SECONDS, NewJob, Settlement, Store, batches

QUEUE = keys.IO_QUEUE
HOUR_MS = 3_600_000


def settled(job_id: str, result: Any = None, **more: Any) -> Outcome:
    return Outcome(
        try_=1, function="work", args=[], kwargs={}, enqueued_ms=0, success=True, result=result,
        started_ms=0, finished_ms=0, queue=QUEUE, id=job_id, **more,
    )  # fmt: skip


async def put(client: Redis, run: str, *found: Outcome, keep_ms: int = HOUR_MS) -> None:
    """Enqueue, claim and settle jobs with those outcomes."""
    store = Store(client)
    await store.enqueue_many(QUEUE, [NewJob(one.id, b"") for one in found], run)
    claim = await store.claim(QUEUE, "fence", 1_000, HOUR_MS)
    by_id = {one.id: one for one in found}
    settlements = []
    for job in claim.jobs:
        whole, entry = outcome.encode(by_id[job.id])
        settlements.append(
            Settlement(job.id, job.fence, whole, keep_ms, "done", "work", run, entry)
        )
    assert await store.acknowledge(QUEUE, settlements) == []


async def add(client: Redis, run: str, *found: Outcome) -> None:
    """Entries alone, as many as there may be, of 32 outcomes as the store makes them."""
    async with client.pipeline(transaction=False) as pipe:
        for several in batches(found, 32):
            fields = {str(place): msgspec.msgpack.encode(one) for place, one in enumerate(several)}
            pipe.xadd(keys.run_outcomes(run), fields)
        await pipe.execute()


# --- create


async def test_a_new_run_is_empty_and_dated_by_the_server(client: Redis) -> None:
    before = await client.time()

    run = await runs.create(client, "enqueue", "first")

    assert run == Run("first", "enqueue", run.created_ms)
    assert before[0] * 1000 <= run.created_ms <= (await client.time())[0] * 1000 + 1000
    assert await runs.get(client, "first") == run
    assert await client.zscore(keys.RUNS, "first") == run.created_ms


async def test_a_run_expires_even_if_nothing_is_ever_enqueued(client: Redis) -> None:
    await runs.create(client, "enqueue", "first")

    assert 0 < await client.ttl(keys.run("first")) <= RUN_TTL_SECONDS


async def test_a_run_without_a_name_gets_one_of_its_kind(client: Redis) -> None:
    made = [await runs.create(client, "demo") for _ in range(20)]

    assert len({run.name for run in made}) == 20
    for run in made:
        assert runs.NAME.fullmatch(run.name)
        assert run.name.startswith("demo-")
        assert set(run.name.removeprefix("demo-")) <= set(runs.LETTERS)
    assert [run.name for run in await runs.latest(client, 100)] != []


async def test_a_name_that_is_taken_is_refused_and_its_run_left_alone(client: Redis) -> None:
    await runs.create(client, "enqueue", "first")
    await put(client, "first", settled("a"))
    before = await runs.get(client, "first")

    with pytest.raises(UsageError, match="a run named 'first' exists; choose another name"):
        await runs.create(client, "demo", "first")

    assert await runs.get(client, "first") == before


async def test_of_many_that_want_a_name_at_once_one_gets_it(client: Redis) -> None:
    answers = await asyncio.gather(
        *(runs.create(client, "enqueue", "first") for _ in range(10)), return_exceptions=True
    )

    assert sorted(type(one).__name__ for one in answers) == ["Run"] + ["UsageError"] * 9


async def test_a_random_name_that_is_taken_is_drawn_again(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter("aaaaaaaaaabbbbb")
    monkeypatch.setattr(runs.secrets, "choice", lambda _: next(letters))

    made = [await runs.create(client, "demo") for _ in range(2)]

    assert [run.name for run in made] == ["demo-aaaaa", "demo-bbbbb"]


async def test_when_no_free_name_is_found_a_name_is_asked_for(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs.secrets, "choice", lambda _: "a")
    await runs.create(client, "demo")

    with pytest.raises(UsageError, match="give one with --run"):
        await runs.create(client, "demo")


@pytest.mark.parametrize("name", ["a", "A9", "2024-01-31", "a_b.c-d", "x" * 64])
async def test_a_name_of_letters_digits_and_marks_is_taken(client: Redis, name: str) -> None:
    assert (await runs.create(client, "enqueue", name)).name == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", "a b", "a:b", "a/b", "a\n", "ä", "x" * 65, "*", "a:outcomes"]
)
async def test_any_other_name_is_refused_before_anything_is_done(client: Redis, name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"):
        await runs.create(client, "enqueue", name)

    assert await client.dbsize() == 0


async def test_a_new_run_takes_the_expired_ones_off_the_list(client: Redis) -> None:
    await runs.create(client, "enqueue", "old")
    await client.zadd(keys.RUNS, {"old": 1})

    await runs.create(client, "enqueue", "new")

    assert await client.zrange(keys.RUNS, 0, -1) == [b"new"]


# --- seal, get, latest


async def test_a_sealed_run_is_over_when_all_its_jobs_have_settled(client: Redis) -> None:
    await runs.create(client, "enqueue", "r")
    await put(client, "r", settled("a"))
    open_run = await runs.get(client, "r")

    await runs.seal(client, "r")

    run = await runs.get(client, "r")
    assert (open_run.is_over, run.is_over, run.sealed) == (False, True, True)


async def test_sealing_a_run_that_has_expired_does_not_make_it_again(client: Redis) -> None:
    await runs.seal(client, "gone")

    assert await client.dbsize() == 0


async def test_a_run_counts_what_was_enqueued_and_what_has_settled(client: Redis) -> None:
    await runs.create(client, "enqueue", "r")
    await put(client, "r", settled("a"), settled("b"))
    await Store(client).enqueue_many(QUEUE, [NewJob("c", b"")], "r")

    run = await runs.get(client, "r")

    assert (run.total, run.done, run.settled, run.waiting) == (3, 2, 2, 1)


async def test_a_name_that_no_run_has_is_an_error_that_says_where_to_look(client: Redis) -> None:
    with pytest.raises(UnknownRun, match="no run is named 'gone'; `twolane runs` lists them"):
        await runs.get(client, "gone")


async def test_the_latest_runs_come_first(client: Redis) -> None:
    for number, name in enumerate(("a", "b", "c")):
        run = await runs.create(client, "enqueue", name)
        await client.zadd(keys.RUNS, {name: run.created_ms + number})

    assert [run.name for run in await runs.latest(client, 2)] == ["c", "b"]


async def test_a_run_that_has_expired_is_not_listed(client: Redis) -> None:
    await runs.create(client, "enqueue", "a")
    await runs.create(client, "enqueue", "b")
    await client.delete(keys.run("a"))

    assert [run.name for run in await runs.latest(client, 10)] == ["b"]


async def test_without_runs_none_is_listed(client: Redis) -> None:
    assert await runs.latest(client, 10) == []


counts = st.integers(0, 1_000)


@settings(derandomize=True, deadline=None, database=None)
@given(counts, counts, counts, counts, st.booleans())
def test_what_waits_and_what_has_settled_make_the_total(
    total: int, done: int, failed: int, cancelled: int, sealed: bool
) -> None:
    run = Run("r", "enqueue", 0, total, done, failed, cancelled, sealed)

    assert run.settled == done + failed + cancelled
    assert run.waiting == max(0, total - run.settled)
    assert run.is_over == (sealed and run.waiting == 0)


# --- ids


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(0, 9_999_999), st.integers(0, 9_999_999))
def test_the_ids_of_a_run_sort_as_their_numbers(one: int, other: int) -> None:
    assert (runs.job_id("r", one) < runs.job_id("r", other)) == (one < other)


# --- read


async def test_outcomes_are_read_in_the_order_in_which_they_came(client: Redis) -> None:
    await add(client, "r", settled("b", 1), settled("a", 2))

    position, found = await runs.read(client, "r")

    assert [(one.id, one.result) for one in found] == [("b", 1), ("a", 2)]
    assert await runs.read(client, "r", position) == (position, [])


async def test_reading_goes_on_where_it_ended(client: Redis) -> None:
    await add(client, "r", settled("a"))
    position, _ = await runs.read(client, "r")
    await add(client, "r", settled("b"))

    _, found = await runs.read(client, "r", position)

    assert [one.id for one in found] == ["b"]


async def test_a_run_that_has_no_outcome_reads_as_empty(client: Redis) -> None:
    assert await runs.read(client, "r") == ("0", [])
    assert [batch async for batch in runs.read_all(client, "r")] == []


async def test_a_reader_that_waits_gets_the_first_outcome(client: Redis) -> None:
    reading = asyncio.create_task(runs.read(client, "r", wait_ms=30_000))

    async def it_waits() -> bool:
        return bool((await client.info("clients"))["blocked_clients"])

    await wait_until(it_waits, "the reader waits in the server")

    await add(client, "r", settled("a"))

    _, found = await reading
    assert [one.id for one in found] == ["a"]


async def test_a_reader_that_waits_in_vain_gets_nothing(client: Redis) -> None:
    assert await runs.read(client, "r", wait_ms=1) == ("0", [])


async def test_all_outcomes_are_read_in_batches(client: Redis) -> None:
    ids = [runs.job_id("r", number) for number in range(7_000)]
    await add(client, "r", *(settled(one) for one in ids))

    found = [batch async for batch in runs.read_all(client, "r")]

    assert [len(batch) for batch in found] == [3_200, 3_200, 600]
    assert [one.id for batch in found for one in batch] == ids


async def test_an_entry_that_is_no_outcome_is_undecodable(client: Redis) -> None:
    await client.xadd(keys.run_outcomes("r"), {"o": b"\xc1"})

    with pytest.raises(UndecodablePayload, match="not a job's result"):
        await runs.read(client, "r")


# --- complete


async def test_a_large_outcome_is_completed_from_its_result(client: Redis) -> None:
    large = "x" * 10_000
    await put(client, "r", settled("a", "small"), settled("b", large), settled("c", large))
    _, slim = await runs.read(client, "r")

    found = await runs.complete(client, slim)

    assert [(one.id, one.partial) for one in slim] == [("a", False), ("b", True), ("c", True)]
    assert [(one.result, one.partial) for one in found] == [
        ("small", False), (large, False), (large, False),
    ]  # fmt: skip


async def test_an_outcome_whose_result_has_expired_stays_partial(client: Redis) -> None:
    await put(client, "r", settled("a", "x" * 10_000), settled("b", "y" * 10_000))
    await client.delete(keys.result("a"))
    _, slim = await runs.read(client, "r")

    found = await runs.complete(client, slim)

    assert [(one.id, one.partial) for one in found] == [("a", True), ("b", False)]
    assert found[0].result is None


async def test_completing_leaves_the_given_list_as_it_is(client: Redis) -> None:
    await put(client, "r", settled("a", "x" * 10_000))
    _, slim = await runs.read(client, "r")

    await runs.complete(client, slim)

    assert slim[0].partial is True


async def test_outcomes_that_are_whole_are_not_looked_up() -> None:
    found = [settled("a")]

    assert await runs.complete(None, found) is found


async def test_a_cancellation_by_arqs_record_is_read(client: Redis) -> None:
    record = {"t": 1, "f": "work", "a": [], "k": {}, "et": 0, "s": False, "st": 0, "ft": 0,
              "q": QUEUE, "id": "a", "r": asyncio.CancelledError()}  # fmt: skip
    await client.xadd(keys.run_outcomes("r"), {"o": wire.dumps(record)})

    _, [found] = await runs.read(client, "r")

    assert isinstance(found.result, asyncio.CancelledError)
