"""Sweeps with made measurements, and one measurement of a real worker's closed workload."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from producer import crews
from producer import sweep as sweeping
from producer.composed import Compose
from producer.crews import Local, Manual, private_broker
from producer.feeding import Feeder
from producer.local import start
from producer.submit import Caller
from producer.sweep import Point, Window, measure_now, sweep
from tests.conftest import wait_until
from tests.producer.laboratory import MACHINE, point
from tests.producer.making import beat, claim, settle, succeeded
from twolane import queues, runs
from twolane.errors import BrokerUnreachable, JobsFailed, TwolaneError, UsageError
from twolane.registry import Registry

CALLER = Caller(Registry.load(["twolane.jobs", "tests.producer.model_jobs"]))
CALL = CALLER.call("count_primes", {"low": 0, "high": 100})


async def test_every_count_is_measured_once_a_round_in_shuffled_orders() -> None:
    seen: list[tuple[int, int]] = []

    async def measure(count: int, round_: int) -> Point:
        seen.append((round_, count))
        return point(count, 10.0 * count, round_)

    points = await sweep(measure, [1, 2, 3, 4, 6, 8], 3, random.Random(5))

    assert [(one.round_, one.workers) for one in points] == seen
    orders = [tuple(c for r, c in seen if r == number) for number in range(3)]
    assert all(sorted(order) == [1, 2, 3, 4, 6, 8] for order in orders)
    assert len(set(orders)) == 3


async def test_the_same_seed_shuffles_the_same_way() -> None:
    async def order(seed: int) -> list[int]:
        async def measure(count: int, round_: int) -> Point:
            return point(count, 1.0, round_)

        return [one.workers for one in await sweep(measure, range(1, 9), 2, random.Random(seed))]

    assert await order(1) == await order(1)
    assert await order(1) != await order(2)


async def test_the_backlog_never_gets_empty_however_fast_jobs_are_taken(client: Redis) -> None:
    run = await runs.create(client, "scale")

    async with Feeder(client, CALL, run.name, slots=4) as feeder:
        feeder.mark()

        async def filled() -> bool:
            return (await queues.look(client, "cpu")).waiting >= 48 and feeder.lowest is not None

        for _ in range(12):
            await settle(client, await claim(client, "cpu", count=20), succeeded(25), lane="cpu")
            await wait_until(filled, "a backlog that was filled up again")
        lowest = feeder.lowest

    assert lowest is not None
    assert lowest > 0
    assert (await runs.get(client, run.name)).sealed
    assert (await runs.get(client, run.name)).total >= 240


async def test_without_a_worker_there_is_nothing_to_measure(client: Redis) -> None:
    with pytest.raises(TwolaneError, match="no cpu worker is running; start one"):
        await measure_now(client, CALL, Window(0.5, 0))


async def test_what_waits_afterwards_is_cancelled_and_nothing_stays_in_the_queue(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beat(client, "cpu-1")
    monkeypatch.setattr(sweeping, "FIRST_SECONDS", 0.05)

    with pytest.raises(TwolaneError, match="no job ended within"):
        await measure_now(client, CALL, Window(0.5, 0))

    depth = await queues.look(client, "cpu")
    assert (depth.waiting, depth.later) == (0, 0)


async def test_a_person_is_asked_for_workers_until_the_count_is_right(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def now(*_: object) -> Point:
        return point(2, 20.0)

    monkeypatch.setattr(crews, "measure_now", now)
    measure = Manual(client, "cpu", asked.append).measure(CALL, Window())
    await beat(client, "cpu-1")
    task = asyncio.create_task(measure(2, 0))

    async def was_asked() -> bool:
        return bool(asked)

    await wait_until(was_asked, "a question")
    assert asked[0].startswith("1 of 2 cpu workers are here: start 1 more")
    assert not task.done()
    await beat(client, "cpu-2")
    assert (await task).workers == 2

    await beat(client, "cpu-3", draining=True)
    assert (await measure(2, 0)).workers == 2, "one that drains is none"
    assert len(asked) == 1


@pytest.mark.slow
async def test_real_workers_are_measured_and_gone_afterwards() -> None:
    async with private_broker() as (server, client):
        crew = Local(server, client, "cpu", ["--processes=1", "--log-level=error"], {})
        call = CALLER.call("count_primes", {"low": 0, "high": 20_000, "method": "trial"})

        found = await crew.measure(call, Window(1.5, 0.2))(2, 1)

        assert (found.workers, found.slots, found.round_, found.failed) == (2, 2, 1, 0)
        assert found.throughput > 0
        window = found.jobs / found.throughput
        assert 1.49 <= window <= found.busy.seconds + 0.01, "looked at from before it to after it"
        assert found.lowest_backlog > 0
        assert 0 < found.busy_slots <= 2
        assert 0 < found.run.p50 <= found.run.p99
        assert found.wait.p50 > 0
        assert found.busy.others["workers"] > 0
        assert 0 < found.busy.machine <= found.busy.cores * 1.05
        assert await client.dbsize() == 0


@pytest.mark.slow
async def test_a_private_broker_that_is_lost_on_the_way_is_one_error() -> None:
    async def lose_it() -> None:
        async with private_broker() as (server, client):
            os.kill(server.pid, signal.SIGKILL)
            while True:
                await client.ping()

    with pytest.raises(BrokerUnreachable, match="the private Valkey of this command was lost"):
        await lose_it()


@pytest.mark.slow
async def test_the_target_ends_with_who_started_it_however_that_ends() -> None:
    process = await start(["twolane", "target", "--port=0", "--with-parent"], pipe=True)
    assert process.stdout is not None
    assert process.stdin is not None
    assert b"listening" in await process.stdout.readline()

    process.stdin.close()

    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.slow
async def test_jobs_that_all_fail_are_no_throughput() -> None:
    async with private_broker() as (server, client):
        options = ["--processes=1", "--log-level=error", "--jobs=tests.producer.model_jobs"]
        crew = Local(server, client, "cpu", options, {})

        with pytest.raises(JobsFailed, match="none of them succeeded: ValueError: no luck"):
            await crew.measure(CALLER.call("fail_always", {}), Window(0.5, 0))(1, 0)


FAKE_DOCKER = """#!/bin/sh
# Keeps the count of the last `--scale io-worker=N`, and answers for the service producer.
echo "$@" >>"$FAKE_LOG"
case "$*" in
*down*ps*) ;;
*ps\\ --quiet*) echo one; echo two ;;
*ps\\ --all*) echo one; echo two; echo valkey ;;
inspect*) echo '[{"HostConfig": {"NanoCpus": 1500000000, "Memory": 268435456}, "Config":' \
    '{"Labels": {"com.docker.compose.project": "x"}}}]' ;;
*no_such_job*) echo "Error: unknown job 'no_such_job'" >&2; exit 2 ;;
*slow_job*) sleep 600 ;;
*io-worker=9*) echo "no such service" >&2; exit 17 ;;
*io-worker=*) echo "${*##*io-worker=}" | cut -d ' ' -f 1 >"$FAKE_LOG.count" ;;
*status*)
    printf '{"workers": ['
    for number in $(seq "$(cat "$FAKE_LOG.count")"); do
        [ "$number" = 1 ] || printf ,
        printf '{"lane": "io"}'
    done
    printf ']}' ;;
*--as-is*) cat "$FAKE_LOG.points" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A docker on PATH that notes what it is told."""
    program, log = tmp_path / "docker", tmp_path / "log"
    program.write_text(FAKE_DOCKER)
    log.touch()
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    made = json.dumps({
        "points": [msgspec.to_builtins(point(3, 900.0))],
        "environment": msgspec.to_builtins(MACHINE),
    })  # fmt: skip
    (tmp_path / "log.points").write_text(made)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_LOG", str(log))
    return lambda: log.read_text().splitlines()


async def test_compose_is_scaled_measured_from_inside_and_put_back(
    docker: Callable[[], list[str]],
) -> None:
    crew = Compose("io", ["fetch", "url=http://target:8080/"], ["--project-name=x"])

    async with crew:
        found = await crew.measure(Window(2, 1))(3, 2)

    assert (found.workers, found.throughput, found.round_) == (3, 900.0, 2)
    assert crew.machine == MACHINE
    assert str(crew.found) == "io-worker of compose project x (1.5 CPUs, 256 MiB each)"
    *_, up, status, measured, back = docker()
    assert up == (
        "compose --project-name=x --ansi never up --detach --wait --no-recreate --no-deps "
        "--scale io-worker=3 io-worker"
    )
    assert status.endswith(" producer status --json")
    assert " --rm --no-TTY --no-deps --name=x-measures-" in status
    assert " producer scale --as-is --lane=io " in measured
    assert measured.endswith("--json fetch url=http://target:8080/")
    assert back.endswith("--scale io-worker=2 io-worker"), "as many as there were"


async def test_a_compose_that_fails_is_quoted(docker: Callable[[], list[str]]) -> None:
    with pytest.raises(TwolaneError, match="ended with exit code 17: no such service"):
        async with Compose("io", ["fetch"]) as crew:
            await crew.measure(Window())(9, 0)

    assert docker()[-1].endswith("--scale io-worker=2 io-worker")


async def test_what_a_command_in_a_container_says_is_said_here(
    docker: Callable[[], list[str]],
) -> None:
    with pytest.raises(UsageError, match=r"^unknown job 'no_such_job'$"):
        async with Compose("io", ["no_such_job"]) as crew:
            await crew.measure(Window())(3, 0)


async def test_an_interrupted_measurement_ends_in_its_container_too(
    docker: Callable[[], list[str]],
) -> None:
    async def measured() -> None:
        async with Compose("io", ["slow_job"]) as crew:
            await crew.measure(Window())(3, 0)

    task = asyncio.create_task(measured())

    async def measures() -> bool:
        return any("slow_job" in line for line in docker())

    await wait_until(measures, "a measurement")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    (name,) = [
        word.partition("=")[2]
        for line in docker()
        if "slow_job" in line
        for word in line.split()
        if word.startswith("--name=")
    ]
    *_, killed, waited, removed, back = docker()
    assert killed == f"kill --signal=INT {name}"
    assert waited == f"wait {name}"
    assert removed == f"rm --force {name}"
    assert back.endswith("--scale io-worker=2 io-worker")


async def test_a_compose_file_that_is_not_up_is_told_before_anything_is_started(
    docker: Callable[[], list[str]],
) -> None:
    with pytest.raises(TwolaneError, match="first: docker compose up -d --build"):
        async with Compose("io", ["fetch"], ["--project-name=down"]):
            pass

    assert not any("up --detach" in line for line in docker())


async def test_without_docker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(TwolaneError, match="there is no docker command"):
        async with Compose("io", ["fetch"]):
            pass
