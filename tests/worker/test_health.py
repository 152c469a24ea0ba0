"""The health file: young while a worker is well, old soon after it is not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis

from producer.cancel import cancel_run
from tests.conftest import wait_until
from tests.e2e.conftest import ROOT, Start, start
from tests.worker.hosting import HostedWorker, enqueue, hosted, outcomes, registry_of
from tests.worker.silencer import Silencer
from twolane import fleet, job, keys
from twolane.broker import connect
from twolane.embedded import Embedded
from twolane.fleet import KEEP_MS
from twolane.registry import Registry
from worker import health
from worker.health import MAX_AGE_SECONDS, check

__all__ = ["start"]


@job
async def rest() -> None: ...


@job
async def wait_for_good(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    await asyncio.Event().wait()


REGISTRY = registry_of([rest])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


def probe(file: Path) -> tuple[int, str]:
    """As an orchestrator asks: the exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.health", str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def seconds_old(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def age(file: Path, seconds: float) -> None:
    """Make the file that old."""
    then = time.time() - seconds
    os.utime(file, (then, then))


# -- What the probe says --


def test_a_young_file_is_well(file: Path) -> None:
    file.touch()

    assert probe(file) == (0, "")


def test_an_old_file_is_not_well_and_says_for_how_long(file: Path) -> None:
    file.touch()
    age(file, 3_600)

    code, said = probe(file)

    assert code == 1
    # The seconds go on while the probe starts.
    told = r"the worker has not been well for 36\d\d s \(its event loop, leases or broker\)\n"
    assert re.fullmatch(told, said)


def test_a_missing_file_names_the_option_that_makes_it(file: Path) -> None:
    code, said = probe(file)

    assert code == 1
    assert said == (
        f"{file}: No such file or directory; is the worker started with --health-file {file}?\n"
    )


def test_a_few_late_heartbeats_are_no_illness(file: Path) -> None:
    file.touch()
    age(file, MAX_AGE_SECONDS - 1)

    assert check(file) is None


# -- When the worker touches it --


def _touch_with(worker: HostedWorker, file: Path) -> None:
    """As :mod:`worker.service` does."""
    assert worker.watch is not None
    worker.pulse._on_sent = health.toucher(file, worker.watch, worker.engine.exchange)


async def _wait_two_beats(worker: HostedWorker) -> None:
    beats = worker.beat.at_ms

    async def two_more_beats() -> bool:
        worker.pulse.hurry()
        return worker.beat.at_ms > beats + 20

    await wait_until(two_more_beats, "two heartbeats")


async def wait_touched(file: Path) -> None:
    age(file, 1_000)
    await wait_until(lambda: check(file) is None, "a touch")


async def test_it_is_touched_with_each_heartbeat(broker: str, client: Redis, file: Path) -> None:
    async with hosted(broker, client, REGISTRY) as worker:
        _touch_with(worker, file)
        await wait_until(file.exists, "the file")
        await wait_touched(file)


async def test_it_is_left_alone_while_leases_are_not_renewed(
    broker: str, client: Redis, file: Path
) -> None:
    async with hosted(broker, client, REGISTRY) as worker:
        _touch_with(worker, file)
        await wait_until(file.exists, "the file")
        assert worker.watch is not None
        await asyncio.to_thread(worker.watch.close)  # the thread is dead, the loop lives
        worker.watch.renewed_at -= 60
        age(file, 1_000)
        await _wait_two_beats(worker)

    assert check(file) is not None


async def test_it_grows_old_while_no_job_can_be_claimed(
    broker: str, client: Redis, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Heartbeats and renewals have connections of their own: what the worker had done was never
    # told, its leases were renewed for good, and it was said to be well.
    async with hosted(broker, client, REGISTRY) as worker:
        _touch_with(worker, file)
        await wait_until(file.exists, "the file")

        await client.set(keys.IO_QUEUE, "no sorted set")
        worker.engine.wake()
        told = "broker away while claiming jobs"
        await wait_until(lambda: told in caplog.text, "a claim that fails")
        age(file, 1_000)
        await _wait_two_beats(worker)
        assert check(file) is not None

        await client.delete(keys.IO_QUEUE)
        await wait_touched(file)


async def test_a_file_that_cannot_be_touched_keeps_no_job_from_being_cancelled(
    broker: str, client: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # It was taken for an outage of the broker, and nobody looked at the aborts.
    registry = registry_of([wait_for_good])
    async with hosted(broker, client, registry) as worker:
        _touch_with(worker, tmp_path / "gone" / "health")
        run = await enqueue(client, registry, "wait_for_good")
        await worker.wait_started()

        await cancel_run(client, run)

        assert [one.cancelled for one in await outcomes(client, run)] == [True]
    assert caplog.text.count("cannot touch the health file") == 1


async def test_it_grows_old_while_the_broker_is_away(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Embedded.for_user("no")
    await asyncio.to_thread(server.start)
    client = connect(server.url)
    try:
        async with hosted(server.url, client, REGISTRY) as worker:
            _touch_with(worker, file)
            await wait_until(file.exists, "the file")

            await asyncio.to_thread(server.stop)
            age(file, 1_000)
            worker.pulse.hurry()
            told = "broker away while sending heartbeats"
            await wait_until(lambda: told in caplog.text, "a heartbeat that fails")
            assert check(file) is not None

            await asyncio.to_thread(server.start)
            await wait_touched(file)
    finally:
        await client.aclose()
        await asyncio.to_thread(server.stop)


@pytest.mark.slow
async def test_it_grows_old_while_a_job_holds_the_event_loop(
    start: Start, client: Redis, file: Path
) -> None:
    # The renewing thread beats for a held loop, which is not dead to the fleet; it is not well.
    worker = start("io", "--health-file", str(file))
    await worker.heartbeat(client)
    await wait_until(file.exists, "the file")
    registry = Registry.load(["tests.e2e.e2e_jobs"])
    run = await enqueue(client, registry, "block_the_loop", {"seconds": 4.0})

    async def beats_for_it() -> int:
        beats = await fleet.workers(client)
        return max((beat.at_ms for beat in beats if beat.blocked_by), default=0)

    first = await wait_until(beats_for_it, "a heartbeat that names who holds the loop")
    age(file, 1_000)

    async def beats_again() -> bool:
        return await beats_for_it() > first

    await wait_until(beats_again, "another one")
    assert probe(file)[0] == 1
    await outcomes(client, run)
    await wait_touched(file)


@pytest.mark.slow
async def test_it_grows_old_while_the_connection_is_silent(
    start: Start, client: Redis, broker: str, file: Path, tmp_path: Path
) -> None:
    silencer = Silencer(broker.removeprefix("unix://"))
    async with silencer.running(f"{tmp_path}/s"):
        worker = start("io", "--health-file", str(file), url=f"unix://{tmp_path}/s")
        await worker.heartbeat(client)
        await wait_until(file.exists, "the file")

        silencer.swallow()
        # Said when a heartbeat has not been answered for 5 s; no other one came between.
        await worker.wait_logged("broker away while sending heartbeats")
        assert seconds_old(file) > 4.5
        await wait_touched(file)

        worker.send(signal.SIGTERM)
        assert await worker.wait() == 0


# -- A worker's end, as the fleet sees it --


async def test_a_worker_that_stops_says_goodbye(start: Start, client: Redis) -> None:
    worker = start("io")
    beat = await worker.heartbeat(client)

    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert await client.zscore(keys.WORKERS, beat.worker) is None
    assert not await client.exists(keys.worker(beat.worker))


async def test_the_word_of_a_killed_worker_ends_within_ten_seconds(
    start: Start, client: Redis
) -> None:
    worker = start("io")
    beat = await worker.heartbeat(client)

    worker.send(signal.SIGKILL)
    await worker.wait()

    seconds, micros = await client.time()
    until = await client.zscore(keys.WORKERS, beat.worker)
    assert until is not None
    assert until - (seconds * 1000 + micros // 1000) <= KEEP_MS == 10_000
    assert 0 < await client.pttl(keys.worker(beat.worker)) <= KEEP_MS
    # Then it is gone from the fleet, whoever else tidies up.
    await client.zadd(keys.WORKERS, {beat.worker: 1})
    assert await fleet.workers(client) == []


async def test_a_frozen_worker_grows_unwell_and_recovers(
    start: Start, client: Redis, file: Path
) -> None:
    worker = start("cpu", "--health-file", str(file))
    await worker.heartbeat(client)
    await wait_until(file.exists, "the file")

    worker.send(signal.SIGSTOP)
    await wait_until(
        lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED, "the stop"
    )
    age(file, 1_000)
    assert probe(file)[0] == 1
    worker.send(signal.SIGCONT)

    await wait_touched(file)
    assert probe(file)[0] == 0
