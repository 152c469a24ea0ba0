"""Submitting: all calls are checked before the first job is enqueued."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from producer import submit as submitting
from producer.submit import Call, Caller, submit
from tests.producer.making import claim
from twolane import keys, runs, wire
from twolane.channel import Channel
from twolane.errors import (
    BadArguments,
    NotEncodable,
    PayloadTooLarge,
    TwolaneError,
    UnknownJob,
    UsageError,
)
from twolane.registry import SHIPPED_JOBS, Registry, job

BEYOND_64_BITS = 2**70


@job
async def take(value: Any = None) -> None:
    pass


@job(name="compute")
def compute(value: int) -> int:
    return value


@pytest.fixture
def caller() -> Caller:
    registry = Registry.load([SHIPPED_JOBS])
    for function in (take, compute):
        registry.add(vars(function)["__twolane_job__"])
    return Caller(registry)


async def queued(client: Redis, lane: keys.Lane) -> list[str]:
    return [one.decode() for one in await client.zrange(keys.QUEUES[lane], 0, -1)]


@pytest.mark.parametrize(
    ("name", "arguments", "error", "says"),
    [
        ("nope", {}, UnknownJob, "known: compute, count_primes"),
        ("count_primes", {"low": 0}, BadArguments, "'high'"),
        ("count_primes", {"low": 0, "high": "ten"}, BadArguments, "parameter 'high': got 'ten'"),
        ("count_primes", {"low": 0, "high": 10, "x": 1}, BadArguments, "'x'"),
        ("fetch", {"url": "ftp://host/"}, BadArguments, "parameter 'url'"),
        ("take", {"value": object()}, NotEncodable, "parameter 'value'"),
        ("take", {"value": BEYOND_64_BITS}, NotEncodable, "parameter 'value'"),
    ],
)
async def test_one_bad_call_among_good_ones_and_nothing_is_enqueued(
    client: Redis,
    caller: Caller,
    name: str,
    arguments: dict[str, Any],
    error: type[TwolaneError],
    says: str,
) -> None:
    def calls() -> Any:
        for _ in range(1_500):  # more than one batch comes before the bad one
            yield caller.call("query", {"rows": 1})
        yield caller.call(name, arguments)

    with pytest.raises(error) as caught:
        await submit(client, calls(), "test")

    assert says in str(caught.value)
    assert await client.dbsize() == 0


async def test_arguments_over_the_limit_are_refused_before_anything_is_enqueued(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_PAYLOAD_BYTES", 1_000)
    calls = [caller.call("take", {"value": "small"}), caller.call("take", {"value": "x" * 1_000})]

    with pytest.raises(PayloadTooLarge, match=r"'take'.* the limit is 1,000"):
        await submit(client, calls, "test")

    assert await client.dbsize() == 0


async def test_nothing_to_enqueue_makes_no_run(client: Redis) -> None:
    with pytest.raises(UsageError, match="nothing to enqueue"):
        await submit(client, [], "test")

    assert await client.dbsize() == 0


async def test_2500_calls_of_both_lanes_make_one_sealed_run(client: Redis, caller: Caller) -> None:
    calls = [
        caller.call("take", {"value": n}) if n % 5 else caller.call("compute", {"value": n})
        for n in range(2_500)
    ]

    run = await submit(client, calls, "test", "many")

    assert (run.name, run.kind, run.total, run.sealed) == ("many", "test", 2_500, True)
    io, cpu = await queued(client, "io"), await queued(client, "cpu")
    assert (len(io), len(cpu)) == (2_000, 500)
    assert sorted(io + cpu) == [runs.job_id("many", n) for n in range(2_500)]


async def test_a_channel_that_is_kept_takes_run_after_run(client: Redis, caller: Caller) -> None:
    channel = Channel(client)
    call = caller.call("take", {})

    made = [await submit(client, [call] * count, "test", channel=channel) for count in (1, 700)]

    assert [(await runs.get(client, one.name)).total for one in made] == [1, 700]
    assert await channel.send([("PING",)]) == [b"PONG"]
    await channel.aclose()


async def test_a_job_carries_its_own_arguments_and_its_run(client: Redis, caller: Caller) -> None:
    await submit(client, [caller.call("take", {"value": n}) for n in range(3)], "test", "own")

    for number, one in enumerate(await claim(client)):
        assert one.id == f"own-{number:07d}"
        assert one.payload is not None
        payload = wire.load_payload(one.payload)
        assert (payload.function, payload.run) == ("take", "own")
        assert wire.loads(payload.kwargs) == {"value": number}


async def test_a_repeated_call_is_encoded_once(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Call] = []
    encode = submitting._encode

    def counting(call: Call, now_ms: int) -> bytes:
        encoded.append(call)
        return encode(call, now_ms)

    monkeypatch.setattr(submitting, "_encode", counting)

    await submit(client, [caller.call("take", {"value": "x" * 1_000})] * 100, "test")

    assert len(encoded) == 1
    assert len(await claim(client)) == 100


async def test_jobs_that_share_an_object_of_arguments_stay_jobs_of_their_own(
    client: Redis, caller: Caller
) -> None:
    registry = Registry.load([SHIPPED_JOBS])
    shared = {"low": 0, "high": 10}
    calls = [Call(registry[name], [], shared) for name in ("count_primes", "find_primes")]

    await submit(client, calls, "test")

    payloads = [wire.load_payload(one.payload or b"") for one in await claim(client, "cpu")]
    assert [one.function for one in payloads] == ["count_primes", "find_primes"]


async def test_a_taken_name_is_refused_and_the_run_that_has_it_is_untouched(
    client: Redis, caller: Caller
) -> None:
    await submit(client, [caller.call("take", {})], "test", "mine")

    with pytest.raises(UsageError, match="'mine' exists"):
        await submit(client, [caller.call("take", {})] * 2, "test", "mine")

    assert (await runs.get(client, "mine")).total == 1
    assert await queued(client, "io") == ["mine-0000000"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65, "a\x1b"])
async def test_a_name_that_is_none_is_refused(client: Redis, caller: Caller, name: str) -> None:
    with pytest.raises(UsageError, match="run name"):
        await submit(client, [caller.call("take", {})], "test", name)

    assert await client.dbsize() == 0


def test_text_of_a_command_line_is_read_as_the_signature_asks(caller: Caller) -> None:
    call = caller.call("count_primes", {"low": "0", "high": "1_000"}, from_text=True)

    assert call.kwargs == {"low": 0, "high": 1000}
