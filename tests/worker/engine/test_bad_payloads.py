"""Payloads that cannot run: each is a recorded failure, and none is tried twice."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.worker.engine.conftest import Host
from tests.worker.engine.queued import nothing_is_left, one_outcome, payload, put
from tests.worker.hosting import HostedWorker, outcomes
from twolane import dead, keys, wire

# An argument of an extension type that nobody knows.
UNREADABLE_ARGUMENT = payload("add", "?", 1).replace(b"\xa1?", b"\xd4\x55\x00")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def bad_payloads(tmp_path: Path) -> dict[str, bytes]:
    return {
        "UnknownFunction": payload("nobody_knows"),
        "WrongLane": payload("compute"),
        "UndecodablePayload": b"\xc1\x00 garbage",
        "UndecodablePayload ": b"",
        "UndecodablePayload  ": pickle.dumps({"f": "add", "bomb": Bomb(tmp_path / "boom")}),
        "UndecodablePayload   ": payload("add", 1, 2)[:-3],
        "UndecodablePayload    ": wire.dumps(["not", "a", "job"]),
        "UndecodablePayload     ": UNREADABLE_ARGUMENT,
        "BadArguments": payload("weekday", "no day"),
        "BadArguments ": payload("weekday"),
        "BadArguments  ": payload("add", 1),
        "BadArguments   ": payload("add", 1, 2, 3),
        "PayloadTooLarge": payload("add", bytes(wire.MAX_PAYLOAD_BYTES), 1),
        "ResultNotEncodable": payload("return_opaque"),
        "ResultTooLarge": payload("return_bytes", wire.MAX_RESULT_BYTES + 1),
    }


BAD = list(bad_payloads(Path()))


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_payload_is_a_recorded_failure_and_a_dead_letter(
    client: Redis, running: HostedWorker, tmp_path: Path, name: str
) -> None:
    data = bad_payloads(tmp_path)[name]
    job_id = await put(client, data)

    (one,) = await outcomes(client, "test")

    assert not one.success
    assert one.id == job_id
    assert one.try_ == 1, "it is tried once: another try would meet the same"
    assert one.error is not None
    assert one.error.type == name.strip()
    assert await dead.ids(client) == [job_id]
    assert await client.hget(keys.dead(job_id), "payload") == data
    assert await nothing_is_left(client)
    assert not (tmp_path / "boom").exists(), "something was unpickled"
    assert (await one_outcome(client, "add", left=2, right=3)).result == 5


async def test_an_expired_payload_is_a_recorded_failure(client: Redis, host: Host) -> None:
    job_id = await put(client, payload("add", 1, 2), ttl_ms=1)

    async def expired() -> bool:
        return not await client.exists(keys.job(job_id))

    await wait_until(expired, "the payload to expire")
    async with host():
        (one,) = await outcomes(client, "test")

    assert one.error is not None
    assert one.error.type == "ExpiredPayload"
    assert await dead.ids(client) == [job_id]
