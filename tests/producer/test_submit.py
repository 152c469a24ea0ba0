"""Submitting: all calls are checked before the first job is enqueued."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import Redis

from producer import submit as submitting
from producer.submit import Call, Caller, submit
from tests.producer.making import claim, settle, succeeded
from twolane import keys, patience, runs, wire
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
from twolane.store import ENQUEUE_BATCH, Store

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
    encode = submitting.encode

    def counting(call: Call, now_ms: int) -> bytes:
        encoded.append(call)
        return encode(call, now_ms)

    monkeypatch.setattr(submitting, "encode", counting)

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


# -- Outages: what was sent may have been done, and is asked for again --


def lose_replies(monkeypatch: pytest.MonkeyPatch, number: int, after: Any = None) -> list[int]:
    """Have a call to the broker do its work, and then fail as if its connection had been cut."""
    work = Store._call
    calls: list[int] = []

    async def cut(self: Store, *args: Any) -> Any:
        answer = await work(self, *args)
        calls.append(len(calls))
        if len(calls) == number:
            if after is not None:
                await after()
            raise redis.exceptions.ConnectionError("cut")
        return answer

    monkeypatch.setattr(Store, "_call", cut)
    return calls


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", ["given", None])
async def test_a_lost_reply_leaves_one_whole_run(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch, number: int, name: str | None
) -> None:
    calls = lose_replies(monkeypatch, number)

    run = await submit(client, [caller.call("take", {})] * 2_500, "test", name)

    assert len(calls) == -(-2_500 // ENQUEUE_BATCH) + 1  # one of the batches twice
    assert (run.total, run.sealed) == (2_500, True)
    found = await runs.get(client, run.name)
    assert (found.total, found.sealed, found.created_ms) == (2_500, True, run.created_ms)
    assert await queued(client, "io") == [runs.job_id(run.name, n) for n in range(2_500)]
    assert [one.name for one in await runs.latest(client, 10)] == [run.name]


async def test_a_name_taken_by_somebody_else_is_refused_after_a_lost_reply_too(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs.create(client, "other", "taken")
    lose_replies(monkeypatch, 1)

    with pytest.raises(UsageError, match="exists"):
        await submit(client, [caller.call("take", {})], "test", "taken")

    assert await queued(client, "io") == []


async def test_jobs_that_ran_before_the_reply_was_lost_do_not_run_again(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody keeps their results, so that their ids are unknown when they are enqueued again.
    async def all_run() -> None:
        await settle(client, await claim(client), succeeded(), keep_ms=0)

    lose_replies(monkeypatch, 1, all_run)

    run = await submit(client, [caller.call("take", {})] * 3, "test")

    found = await runs.get(client, run.name)
    assert (found.total, found.done) == (3, 3)
    assert await queued(client, "io") == []


async def test_a_producer_does_not_wait_for_ever(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise redis.exceptions.ConnectionError("away")

    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(Store, "_call", away)

    with pytest.raises(redis.exceptions.ConnectionError):
        await submit(client, [caller.call("take", {})], "test")


async def test_a_refusal_is_told_at_once(
    client: Redis, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise redis.exceptions.AuthenticationError("who are you?")

    monkeypatch.setattr(Store, "_call", refuse)

    with pytest.raises(redis.exceptions.AuthenticationError):
        await submit(client, [caller.call("take", {})], "test")
