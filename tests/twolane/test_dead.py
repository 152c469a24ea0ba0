"""The dead letters: listed, shown, dropped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from twolane import dead, keys, outcome, wire
from twolane.dead import DeadLetter
from twolane.errors import RemoteError
from twolane.outcome import Outcome
from twolane.store import NewJob, Settlement, Store

QUEUE = keys.CPU_QUEUE
ERROR = RemoteError("KeyError", "'x'", "Traceback …")


def failure(job_id: str, error: Any = ERROR, tries: int = 3) -> bytes:
    return outcome.encode(
        Outcome(
            try_=tries,
            function="work",
            args=[],
            kwargs={},
            enqueued_ms=0,
            success=False,
            result=msgspec.Raw(wire.dumps(error)),
            started_ms=0,
            finished_ms=0,
            queue=QUEUE,
            id=job_id,
        )
    )[0]


async def die(client: Redis, *ids: str, run: str = "", result: bytes | None = None) -> None:
    """Enqueue, claim and fail jobs."""
    store = Store(client)
    await store.enqueue_many(QUEUE, [NewJob(one, b"payload") for one in ids], run)
    claim = await store.claim(QUEUE, "fence", 1_000, 60_000)
    fenced = await store.acknowledge(
        QUEUE,
        [
            Settlement(
                one.id, one.fence, failure(one.id) if result is None else result,
                60_000, "failed", "work", run,
            )
            for one in claim.jobs
        ],
    )  # fmt: skip
    assert (len(claim.jobs), fenced) == (len(ids), [])


async def collected(client: Redis, *ids: str) -> list[DeadLetter]:
    return [one async for one in dead.letters(client, ids)]


async def test_a_dead_letter_says_what_failed_and_why(client: Redis) -> None:
    await die(client, "r-0000001", run="r")
    died = await client.zscore(keys.DEAD, "r-0000001")

    [letter] = await collected(client, "r-0000001")

    assert letter == DeadLetter(
        id="r-0000001",
        function="work",
        queue=QUEUE,
        run="r",
        died_ms=int(died or 0),
        tries=3,
        error="KeyError",
        message="'x'",
        traceback="Traceback …",
    )


async def test_without_dead_letters_there_are_none(client: Redis) -> None:
    assert await dead.count(client) == 0
    assert await dead.ids(client) == []
    assert await collected(client) == []
    assert await dead.drop(client, []) == []


async def test_dead_letters_are_counted_and_listed_the_latest_first(client: Redis) -> None:
    await die(client, "a", "b", "c")
    await client.zadd(keys.DEAD, {"a": 30, "b": 10, "c": 20})

    assert await dead.count(client) == 3
    assert await dead.ids(client) == ["a", "c", "b"]


async def test_the_dead_letters_of_one_run_are_listed(client: Redis) -> None:
    await die(client, "r-0000001", "r-0000002", run="r")
    await die(client, "r-x-0000001", run="r-x")
    await die(client, "other")

    assert sorted(await dead.ids(client, "r")) == ["r-0000001", "r-0000002"]
    assert await dead.ids(client, "r-x") == ["r-x-0000001"]
    assert await dead.ids(client, "gone") == []


async def test_letters_come_in_the_order_of_the_ids_unknown_ones_passed_over(
    client: Redis,
) -> None:
    ids = [f"j{number:04d}" for number in range(450)]
    await die(client, *ids)

    found = await collected(client, *reversed(ids), "unknown")

    assert [one.id for one in found] == ids[::-1]


async def test_a_job_that_failed_twice_is_one_letter(client: Redis) -> None:
    await die(client, "a")
    await Store(client).revive(["a"])
    store = Store(client)
    [job] = (await store.claim(QUEUE, "again", 1, 60_000)).jobs
    again = failure("a", RemoteError("ValueError", "later"), tries=1)

    await store.acknowledge(
        QUEUE, [Settlement("a", job.fence, again, 60_000, "failed", "work")]
    )  # fmt: skip

    [letter] = await collected(client, "a")
    assert (letter.error, letter.message, letter.tries) == ("ValueError", "later", 1)
    assert await dead.count(client) == 1


@pytest.mark.parametrize("result", [b"", b"\xc1", b"\x80\x04N.", b"\x80"])
async def test_a_letter_whose_record_cannot_be_read_is_listed_all_the_same(
    client: Redis, result: bytes
) -> None:
    await die(client, "a", result=result)

    [letter] = await collected(client, "a")

    assert (letter.id, letter.function, letter.error, letter.tries) == ("a", "work", "?", 0)
    assert "not a job's result" in letter.message


async def test_a_letter_whose_names_are_no_text_is_listed_all_the_same(client: Redis) -> None:
    await die(client, "a")
    await client.hset(keys.dead("a"), "function", b"\xff\xfe")

    [letter] = await collected(client, "a")

    assert letter.function == "\ufffd\ufffd"


async def test_a_dropped_letter_is_gone_for_good(client: Redis) -> None:
    await die(client, "a", "b")

    missing = await dead.drop(client, ["a", "unknown"])

    assert missing == ["unknown"]
    assert await dead.ids(client) == ["b"]
    assert await client.exists(keys.dead("a")) == 0
    assert await Store(client).revive(["a"]) == ["a"]


async def test_letters_beyond_one_batch_are_all_dropped(client: Redis) -> None:
    ids = [f"j{number:04d}" for number in range(999)]
    await die(client, *ids)

    missing = await dead.drop(client, [*ids, "unknown"])

    assert missing == ["unknown"]
    assert await client.keys("twolane:dead*") == []
