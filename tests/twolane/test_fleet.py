"""The fleet: who has been heard of lately."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from twolane import fleet, keys
from twolane.errors import UndecodablePayload
from twolane.fleet import KEEP_MS, Heartbeat

counts = st.integers(0, 2**53)


def beat(worker: str, lane: str = "io", **more: int) -> Heartbeat:
    return Heartbeat(worker=worker, lane=lane, host="host", pid=1, **more)


async def publish(client: Redis, one: Heartbeat, *, for_ms: int = KEEP_MS) -> None:
    seconds, micros = await client.time()
    await client.zadd(keys.WORKERS, {one.worker: seconds * 1000 + micros // 1000 + for_ms})
    await client.set(keys.worker(one.worker), fleet.encode(one), px=KEEP_MS)


async def test_without_workers_there_are_none(client: Redis) -> None:
    assert await fleet.workers(client) == []


async def test_a_worker_is_known_by_its_latest_heartbeat(client: Redis) -> None:
    await publish(client, beat("w", done=1))
    await publish(client, beat("w", done=2, busy=3))

    assert await fleet.workers(client) == [beat("w", done=2, busy=3)]


async def test_workers_come_by_lane_and_name(client: Redis) -> None:
    for worker, lane in (("b", "io"), ("c", "cpu"), ("a", "io")):
        await publish(client, beat(worker, lane))

    assert [one.worker for one in await fleet.workers(client)] == ["c", "a", "b"]


async def test_a_worker_whose_word_no_longer_holds_is_left_out(client: Redis) -> None:
    await publish(client, beat("gone"), for_ms=-1)
    await publish(client, beat("here"))

    assert [one.worker for one in await fleet.workers(client)] == ["here"]


async def test_a_worker_whose_heartbeat_has_expired_is_left_out(client: Redis) -> None:
    await publish(client, beat("gone"))
    await publish(client, beat("here"))
    await client.delete(keys.worker("gone"))

    assert [one.worker for one in await fleet.workers(client)] == ["here"]


async def test_a_heartbeat_of_a_newer_version_is_read(client: Redis) -> None:
    await publish(client, beat("w"))
    newer = {**msgspec.to_builtins(beat("w", done=5)), "not_known_yet": [1]}
    await client.set(keys.worker("w"), msgspec.msgpack.encode(newer))

    assert await fleet.workers(client) == [beat("w", done=5)]


async def test_bytes_that_are_no_heartbeat_are_undecodable(client: Redis) -> None:
    await publish(client, beat("w"))
    await client.set(keys.worker("w"), b"\xc1")

    with pytest.raises(UndecodablePayload, match="not a heartbeat"):
        await fleet.workers(client)


@settings(derandomize=True, deadline=None, database=None)
@given(
    st.builds(
        Heartbeat,
        worker=st.text(max_size=9),
        lane=st.sampled_from(keys.LANES),
        host=st.text(max_size=9),
        pid=counts,
        slots=counts,
        busy=counts,
        done=counts,
        failed=counts,
        retried=counts,
        fenced=counts,
        draining=st.booleans(),
        loop_lag_ms=st.floats(0, 1e9),
        cpu_share=st.floats(0, 1e3),
        memory_bytes=counts,
        started_ms=counts,
        version=st.text(max_size=9),
    )
)
def test_a_heartbeat_comes_back_as_it_was(one: Heartbeat) -> None:
    assert msgspec.msgpack.decode(fleet.encode(one), type=Heartbeat) == one


def test_a_heartbeat_is_small() -> None:
    # It is written once a second by every worker, and read by everyone who watches.
    assert len(fleet.encode(beat("host-123-abcdef"))) < 100
