"""What befalls a fleet: churn, rolling restarts, two versions of the code."""

from __future__ import annotations

import asyncio
import signal
import time

from chaoslab.catalog import fault
from chaoslab.fleet import Worker, ready
from chaoslab.lab import Lab
from twolane import dead

WORKERS, SLOTS, JOBS = 30, 20, 10_000
AT_A_TIME = 6  # workers that start at once; each takes half a second of a core to do so


async def _fill(lab: Lab, seconds: float) -> None:
    await lab.enqueue("nap", JOBS, seconds=seconds)


async def _crew(lab: Lab) -> list[Worker]:
    crew: list[Worker] = []
    while len(crew) < WORKERS:
        new = [lab.fleet.launch("io", "--concurrency", str(SLOTS)) for _ in range(AT_A_TIME)]
        await ready(*new)
        crew += new
    return crew


@fault(
    "churn", "fleet",
    "30 workers of 20 slots started, stopped and killed at random under 10,000 jobs",
    "10,000 of 10,000 recorded once", heavy=True, limit=150, deadline=60, lease="2s",
)  # fmt: skip
async def churn(lab: Lab) -> None:
    crew = await _crew(lab)
    # Longer than the churn, whatever the machine: 10,000 jobs over 600 slots.
    await _fill(lab, 0.5)
    killed = stopped = 0
    for _ in range(10):
        for one in lab.random.sample(crew, 2):
            crew.remove(one)
            if lab.random.random() < 0.5:
                one.send(signal.SIGKILL)
                killed += 1
            else:
                one.send(signal.SIGTERM)
                stopped += 1
        new = [lab.fleet.launch("io", "--concurrency", str(SLOTS)) for _ in range(2)]
        await ready(*new)
        crew += new
    left = JOBS - len(await lab.records())
    lab.check(left > 0, "all jobs were over before the churn was")
    await lab.wait_recorded(JOBS, 60)
    lab.check(killed > 0 < stopped, "the dice spared all of one kind")
    again = len(lab.entries("start")) - JOBS
    lab.check(again >= killed, f"{again} jobs were cut short by {killed} deaths")
    lab.note(f"{killed} killed, {stopped} stopped")


@fault(
    "rolling-restart", "fleet", "a fleet of 30 workers replaced one by one under 10,000 jobs",
    "10,000 of 10,000 recorded once; no failed job, no try used up, nothing runs twice",
    heavy=True, limit=150, deadline=60, lease="10s",
)  # fmt: skip
async def rolling_restart(lab: Lab) -> None:
    crew = await _crew(lab)
    # Twice what the restarts take on four cores.
    await _fill(lab, 1.0)
    began = time.monotonic()
    for first in range(0, WORKERS, AT_A_TIME):
        new = [lab.fleet.launch("io", "--concurrency", str(SLOTS)) for _ in range(AT_A_TIME)]
        await ready(*new)
        old = crew[first : first + AT_A_TIME]
        for one in old:
            one.send(signal.SIGTERM)
        codes = await asyncio.gather(*(one.wait() for one in old))
        lab.check(not any(codes), f"exit codes {codes}")
    took = time.monotonic() - began
    lab.check(len(await lab.records()) < JOBS, "all jobs were over before the last one left")
    await lab.wait_recorded(JOBS, 60)
    starts = lab.entries("start")
    tries = [one for one in starts if one.try_ > 1]
    lab.check(not tries, f"{len(tries)} tries used up")
    lab.check(len(starts) == JOBS, f"{len(starts)} starts of {JOBS} jobs")
    lab.note(f"{WORKERS} workers replaced in {took:.0f} s")


@fault(
    "two-versions", "fleet", "two versions of the code side by side, jobs of both",
    "what only the newer one knows is done by it, or parked until it is retried there",
)  # fmt: skip
async def two_versions(lab: Lab) -> None:
    old = lab.fleet.launch("io", "--concurrency", "10")
    new = lab.fleet.launch(
        "io", "--concurrency", "10", modules=["chaoslab.jobs", "chaoslab.newer_jobs"]
    )
    await ready(old, new)
    await lab.enqueue("nap", 200, seconds=0.01)
    run = await lab.open_run()
    jobs = [lab.job(f"{run}-{number:07d}", "added_later") for number in range(200)]
    await lab.enqueue_through(lab.store, "io", jobs, run)
    await lab.wait_recorded(400)
    old.send(signal.SIGTERM)
    await old.wait()
    parked = await dead.ids(lab.client)
    lab.check(len(parked) > 0, "the older one came to none of the new jobs")
    refused = await lab.store.revive(parked)
    lab.check(not refused, f"{len(refused)} could not be retried")
    lab.lives = dict.fromkeys(parked, 2)
    lab.note(f"{len(parked)} parked by the older one")
