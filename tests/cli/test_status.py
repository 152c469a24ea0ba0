"""``status``: queues, workers and dead letters now."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from tests.cli.conftest import SAMPLES, Run
from tests.conftest import wait_until
from tests.producer.making import claim, failed, settle

LANE_FIELDS = {
    "lane", "workers", "slots", "running", "waiting", "later", "oldest_seconds", "counters",
}  # fmt: skip


def test_an_empty_broker_has_two_lanes_and_nothing_to_say(twolane: Run) -> None:
    code, out, err = twolane("status")
    found = json.loads(twolane("status", "--json").out)

    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["lane", "io", "cpu"]
    assert [set(lane) for lane in found["lanes"]] == [LANE_FIELDS] * 2
    assert (found["workers"], found["dead_letters"]) == ([], 0)


def test_jobs_that_no_worker_will_run_are_pointed_out(twolane: Run) -> None:
    twolane("enqueue", "primes", "--chunks", "3")

    code, out, err = twolane("status")

    assert code == 0
    assert out.splitlines()[2].split()[:5] == ["cpu", "0", "0", "0", "3"]
    assert err == (
        "3 cpu jobs to run, and no worker serves the lane; start one: twolane worker cpu\n"
    )


async def test_dead_letters_are_pointed_out(twolane: Run, client: Redis) -> None:
    twolane("enqueue", "query")
    await settle(client, await claim(client), failed())

    assert twolane("status").err == "1 dead letter: twolane dead list\n"
    assert json.loads(twolane("status", "--json").out)["dead_letters"] == 1


async def test_a_worker_is_seen_with_its_slots_and_what_it_runs(
    twolane: Run, start_worker: Callable[..., Any]
) -> None:
    worker = await start_worker("io", "--concurrency=7")
    twolane("enqueue", "job", "wait_long", SAMPLES, "--run", "long")

    async def status() -> Any:
        found = json.loads(twolane("status", "--json").out)
        return found if found["lanes"][0]["running"] else None

    found = await wait_until(status, "a job that runs")

    assert found["lanes"][0]["slots"] == 7
    (beat,) = found["workers"]
    assert (beat["pid"], beat["lane"], beat["busy"]) == (worker.process.pid, "io", 1)
    twolane("cancel", "long")
