"""What a job may do to its worker, and what is recorded of it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from tests.e2e.conftest import Start, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import dead, keys, runs, wire
from twolane.registry import Registry
from twolane.store import NewJob, Store


@pytest.mark.parametrize(
    "name", ["exit_python", "exit_python_from_a_thread", "exit_python_from_a_task"]
)
async def test_a_job_that_exits_fails_alone(
    client: Redis, registry: Registry, start: Start, name: str
) -> None:
    worker = start("io")
    (left,) = await outcomes(client, await enqueue(client, registry, name))
    (added,) = await outcomes(
        client, await enqueue(client, registry, "add", {"left": 1, "right": 2})
    )

    assert left.error is not None
    assert left.error.type == "JobExited"
    assert added.result == 3
    assert worker.is_running
    assert left.worker == added.worker


@pytest.mark.parametrize("name", ["fork_and_return", "fork_and_wait"])
async def test_a_copy_of_the_worker_that_a_job_forked_does_nothing(
    client: Redis, registry: Registry, start: Start, name: str
) -> None:
    # It ran the worker's loop beside it, on the same connections: it failed the jobs that it
    # claimed by "no running event loop", and the worker read the replies that were meant for it.
    worker = start("io")
    forked = await enqueue(client, registry, name)
    others = await enqueue(client, registry, "nap", *[{"seconds": 0.01}] * 50)

    (left,) = await outcomes(client, forked)
    after = await outcomes(client, others)

    assert left.result == "original"
    assert [one.error for one in after] == [None] * 50
    copies = psutil.Process(worker.pid).children()
    assert all(one.status() == psutil.STATUS_ZOMBIE for one in copies)
    assert await client.hget(keys.counters(keys.IO_QUEUE), "done") == b"51"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("leave_at_once", {"status": 7}, "exited with status 7"),
        ("crash", {}, "SIGSEGV"),
    ],
)
async def test_a_cpu_job_that_takes_its_process_down_fails_alone(
    client: Redis,
    registry: Registry,
    start: Start,
    notes: Path,
    name: str,
    arguments: dict[str, int],
    message: str,
) -> None:
    worker = start("cpu")
    beside = await enqueue(client, registry, "hold", {"directory": str(notes), "name": "beside"})
    await wait_noted(notes, "beside")

    (died,) = await outcomes(client, await enqueue(client, registry, name, arguments))
    (after,) = await outcomes(client, await enqueue(client, registry, "own_pid"))
    (notes / "go").touch()
    (held_,) = await outcomes(client, beside)

    assert died.error is not None
    assert died.error.type == "ProcessDied"
    assert message in died.error.message
    assert after.success
    assert held_.result == int((notes / "beside").read_text()), "the other process went on"
    assert worker.is_running


async def test_a_cpu_job_over_its_timeout_costs_its_own_process_alone(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    start("cpu")
    beside = await enqueue(client, registry, "hold", {"directory": str(notes), "name": "beside"})
    await wait_noted(notes, "beside")

    (late,) = await outcomes(client, await enqueue(client, registry, "compute_too_long"))
    (notes / "go").touch()
    (held_,) = await outcomes(client, beside)

    assert late.error is not None
    assert late.error.type == "JobTimeout"
    assert late.run_seconds >= 0.29  # a timer may go off early by its resolution
    assert held_.result == int((notes / "beside").read_text())


async def test_a_failing_cpu_job_gets_its_retries_then_is_a_dead_letter(
    client: Redis, registry: Registry, start: Start
) -> None:
    start("cpu")
    run = await enqueue(client, registry, "fail", {"message": "no such luck"})
    (one,) = await outcomes(client, run)

    assert one.error is not None
    assert (one.error.type, one.error.message) == ("ValueError", "no such luck")
    assert "in fail" in one.error.traceback
    assert one.try_ == 3
    kept = wire.load_payload(await client.hget(keys.dead(one.id), "payload"))
    assert wire.loads(kept.kwargs) == {"message": "no such luck"}


CPU_BAD = {
    "wrong arguments": (b"\x91\x07", b"\x80", "weekday", "BadArguments"),
    "a type from nowhere": (b"\x91\xd4\x55\x00", b"\x80", "weekday", "UndecodablePayload"),
    "an unencodable result": (b"\x90", b"\x80", "opaque", "ResultNotEncodable"),
    "an unknown function": (b"\x90", b"\x80", "nobody_knows", "UnknownFunction"),
    "the other lane's": (b"\x90", b"\x80", "add", "WrongLane"),
}


async def test_bad_payloads_are_recorded_and_the_cpu_worker_goes_on(
    client: Redis, registry: Registry, start: Start
) -> None:
    start("cpu")
    await runs.create(client, "test", "bad")
    jobs = [
        NewJob(runs.job_id("bad", number), _payload(function, args, kwargs))
        for number, (args, kwargs, function, _) in enumerate(CPU_BAD.values())
    ]
    await Store(client).enqueue_many(keys.CPU_QUEUE, jobs, "bad")
    await runs.seal(client, "bad")

    ended = await outcomes(client, "bad")
    (after,) = await outcomes(client, await enqueue(client, registry, "own_pid"))

    assert [one.error.type for one in ended if one.error] == [row[3] for row in CPU_BAD.values()]
    assert [one.try_ for one in ended] == [1] * len(CPU_BAD), "another try would meet the same"
    assert sorted(await dead.ids(client)) == [one.id for one in ended]
    assert after.success


def _payload(function: str, args: bytes, kwargs: bytes) -> bytes:
    head = b"\x86\xa1t\xc0\xa1f" + wire.dumps(function) + b"\xa1a" + args + b"\xa1k" + kwargs
    return head + b"\xa2et\x01\xa3run\xa3bad"
