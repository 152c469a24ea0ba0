"""What befalls a fleet: churn, rolling restarts, two versions of the code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

from chaoslab.catalog import fault
from chaoslab.fleet import Worker, ready
from chaoslab.lab import Lab
from twolane import dead, keys

WORKERS, SLOTS, JOBS = 30, 20, 10_000
AT_A_TIME = 6  # workers that start at once; each takes half a second of a core to do so


class Backlog:
    """10,000 jobs, and more for as long as a machine that starts workers slowly needs them."""

    def __init__(self, lab: Lab, seconds: float) -> None:
        self._lab = lab
        self._seconds = seconds
        self.jobs = 0

    async def fill(self) -> None:
        await self._put(JOBS)
        self._over = asyncio.Event()
        self._task = self._lab.go(self._keep())

    async def _put(self, count: int) -> None:
        await self._lab.enqueue("nap", count, seconds=self._seconds)
        self.jobs += count

    async def _keep(self) -> None:
        while not self._over.is_set():
            # What runs is in the queue too.
            if await self._lab.client.zcard(keys.IO_QUEUE) < 3 * WORKERS * SLOTS:
                await self._put(WORKERS * SLOTS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 0.1)

    async def end(self) -> None:
        """Let the last call end; check that there are jobs to go."""
        self._over.set()
        await self._task
        left = self.jobs - len(await self._lab.records())
        self._lab.check(left > 0, "all jobs were over before the fault was")


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
    backlog = Backlog(lab, 0.5)
    await backlog.fill()
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
    await backlog.end()
    await lab.wait_recorded(backlog.jobs, 60)
    lab.check(killed > 0 < stopped, "the dice spared all of one kind")
    again = len(lab.entries("start")) - backlog.jobs
    lab.check(again >= killed, f"{again} jobs were cut short by {killed} deaths")
    lab.note(f"{killed} killed, {stopped} stopped")


@fault(
    "rolling-restart", "fleet", "a fleet of 30 workers replaced one by one under 10,000 jobs",
    "10,000 of 10,000 recorded once; no failed job, no try used up, nothing runs twice",
    heavy=True, limit=150, deadline=60, lease="10s",
)  # fmt: skip
async def rolling_restart(lab: Lab) -> None:
    crew = await _crew(lab)
    backlog = Backlog(lab, 0.5)
    await backlog.fill()
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
    await backlog.end()
    await lab.wait_recorded(backlog.jobs, 60)
    starts = lab.entries("start")
    tries = [one for one in starts if one.try_ > 1]
    lab.check(not tries, f"{len(tries)} tries used up")
    lab.check(len(starts) == backlog.jobs, f"{len(starts)} starts of {backlog.jobs} jobs")
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
    parked: list[str] = []
    # The newer one may have done all of them before the older one comes to any: then some more.
    for first in range(0, 2_000, 200):
        some = range(first, first + 200)
        jobs = [lab.job(f"{run}-{number:07d}", "added_later") for number in some]
        await lab.enqueue_through(lab.store, "io", jobs, run)
        await lab.wait_recorded(200 + some.stop)
        parked = await dead.ids(lab.client)
        if parked:
            break
    old.send(signal.SIGTERM)
    await old.wait()
    lab.check(len(parked) > 0, "the older one came to none of the new jobs")
    refused = await lab.store.revive(parked)
    lab.check(not refused, f"{len(refused)} could not be retried")
    lab.lives = dict.fromkeys(parked, 2)
    lab.note(f"{len(parked)} parked by the older one")
