"""Runs work through twolane's own workers, on a private broker of their own."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import psutil

from producer.collect import follow
from producer.crews import private_broker
from producer.local import LocalFleet
from producer.models.usage import of_trees, trees
from producer.models.work import Measurement, Work
from producer.submit import Call, submit

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from producer.collect import Collected

PATIENCE_SECONDS = 600.0


async def measure(work: Work, call: Call) -> Measurement:
    """One worker of the work's lane, started for this; from enqueuing to the last result in hand.

    The CPU seconds are the worker's, the broker's and the producer's.
    """
    options = ["--log-level=error", *(f"--jobs={name}" for name in work.modules)]
    async with (
        private_broker() as (server, client),
        LocalFleet(server.url, options, grace_seconds=1) as fleet,
    ):
        await fleet.start(work.lane, *_slots(work))
        await fleet.wait_ready(client)
        await _run(client, call, work.width("twolane workers"))
        pids = [server.pid, *(one.process.pid for one in fleet.children)]
        return await _measured(client, work, call, trees(pids))


def _slots(work: Work) -> list[str]:
    if work.lane == "io":
        return [f"--concurrency={work.at_once}", "--files-root=."]
    return [f"--processes={work.cores}"]


async def _run(client: Redis, call: Call, count: int) -> Collected:
    run = await submit(client, [call] * count, "compare")
    return await follow(client, run.name, timeout=PATIENCE_SECONDS)


async def _measured(
    client: Redis, work: Work, call: Call, helpers: list[psutil.Process]
) -> Measurement:
    ourselves = psutil.Process().cpu_times()
    spent, began = of_trees(helpers), perf_counter()
    collected = await _run(client, call, work.count)
    wall = perf_counter() - began
    spent = of_trees(helpers) - spent
    now = psutil.Process().cpu_times()
    spent += now.user + now.system - ourselves.user - ourselves.system
    failures = [one for one in collected.outcomes if not one.success]
    error = failures[0].error if failures else None
    held = max(one.hold_seconds for one in collected.outcomes)
    return Measurement(
        wall=wall,
        cpu_seconds=spent,
        longest_block=held if work.lane == "io" else None,
        failed=len(failures),
        error=f"{error.type}: {error.message}"[:300] if error else "",
    )
