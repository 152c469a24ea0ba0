"""The calls themselves: their scripts, their batches, and a server that is full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from tests.twolane.store.place import HOUR_MS, LEASE_MS, QUEUE, Place
from twolane.store import (
    ENQUEUE_BATCH,
    MAX_CLAIM,
    SETTLE_BATCH,
    Cancellation,
    Store,
    batches,
)


async def test_nothing_to_do_makes_no_call() -> None:
    store = Store(cast(Redis, None))  # any call would fail

    assert await store.enqueue_many(QUEUE, []) == []
    assert await store.acknowledge(QUEUE, []) == []
    assert await store.renew(QUEUE, [], LEASE_MS) == []
    assert await store.retry(QUEUE, []) == []
    assert await store.release(QUEUE, []) == []
    assert await store.cancel(QUEUE, []) == (0, 0)
    assert await store.revive([]) == []


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(place: Place) -> None:
    await place.enqueue("a", "b", "c", "d", run="r")
    await place.client.script_flush()
    jobs = (await place.claim(3)).jobs
    await place.client.script_flush()
    lost = await place.store.renew(QUEUE, [(one.id, one.fence) for one in jobs], LEASE_MS)
    await place.client.script_flush()
    fenced = await place.settle(jobs[:1], "failed", run="r")
    await place.client.script_flush()
    fenced += await place.store.retry(QUEUE, [("b", jobs[1].fence, 0)])
    await place.client.script_flush()
    fenced += await place.store.release(QUEUE, [("c", jobs[2].fence, jobs[2].due_ms)])
    await place.client.script_flush()
    refused = await place.store.revive(["a"])
    await place.client.script_flush()
    cancelled = await place.cancel("d", run="r")
    await place.client.script_flush()
    refused += await place.enqueue("e", run="r")

    assert (lost, fenced, refused, cancelled) == ([], [], [], (1, 0))
    assert sorted(await place.waiting()) == ["a", "b", "c", "e"]


async def test_a_known_script_is_sent_by_its_digest_alone(place: Place) -> None:
    await place.enqueue("a")
    await place.enqueue("b")

    assert [len(call[0]) for call in place.calls.made] == [40, 40]
    assert await place.client.script_exists(place.calls.made[0][0]) == [1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_batches_hold_every_item_once_in_order(count: int) -> None:
    made = list(batches(iter(range(count)), 3))

    assert [item for batch in made for item in batch] == list(range(count))
    assert all(1 <= len(batch) <= 3 for batch in made)
    assert all(len(batch) == 3 for batch in made[:-1])


def test_batches_are_small_enough_for_the_servers_stack() -> None:
    # Lua's unpack takes at most about 8,000 values; enqueue and claim unpack two a job.
    assert 2 * max(ENQUEUE_BATCH, MAX_CLAIM, SETTLE_BATCH) < 7_000


# --- a full server


@pytest.fixture
async def full(valkey_place: Place) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Fills the server: from then on it takes nothing that needs memory."""
    client = valkey_place.client

    async def fill() -> None:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used - 1)

    yield fill
    await client.config_set("maxmemory", 0)


async def test_a_full_server_takes_no_new_jobs(
    valkey_place: Place, full: Callable[[], Awaitable[None]]
) -> None:
    await full()

    with pytest.raises(OutOfMemoryError):
        await valkey_place.enqueue("a")

    assert await valkey_place.waiting() == []


async def test_on_a_full_server_what_waits_and_runs_comes_to_its_end(
    valkey_place: Place, full: Callable[[], Awaitable[None]]
) -> None:
    # Nothing could be recorded, and so no memory was ever given back.
    place = valkey_place
    running = {one: (await place.running(one))[0] for one in "abcd"}
    await place.enqueue("e")
    await full()

    (waiting,) = (await place.claim()).jobs
    assert waiting.id == "e"
    assert await place.store.renew(QUEUE, [("a", running["a"].fence)], HOUR_MS) == []
    assert await place.settle([running["a"]]) == []
    assert await place.settle([running["a"]]) == ["a"]  # a refusal alone is counted as well
    assert await place.settle([running["b"]], kind="failed") == []
    assert await place.store.retry(QUEUE, [("c", running["c"].fence, 0)]) == []
    assert await place.store.release(QUEUE, [("d", running["d"].fence, 0)]) == []
    assert await place.store.cancel(QUEUE, [Cancellation("e", b"cancelled")]) == (0, 1)
    assert await place.store.cancel(QUEUE, [Cancellation("c", b"cancelled")]) == (1, 0)
