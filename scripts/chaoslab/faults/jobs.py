"""What befalls single jobs: poison, unknown code, broken or huge payloads, races."""

from __future__ import annotations

import asyncio
import heapq
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from chaoslab.catalog import fault
from chaoslab.fleet import Worker, ready
from chaoslab.lab import Lab
from chaoslab.load import start_workers
from producer.cancel import cancel_jobs
from twolane import dead, keys, wire
from twolane.broker import connect
from twolane.errors import NotEncodable
from twolane.store import NewJob, Store

MEBIBYTE = 1024 * 1024
HOUR_MS = 3_600_000


class Supervisor:
    """Starts a worker again whenever it ends, as a service manager does."""

    def __init__(self, lab: Lab, lane: str, *options: str) -> None:
        self._lab = lab
        self._start = (lane, *options)
        self._task = lab.go(self._run())
        self.worker: Worker | None = None
        self.starts = 0

    async def _run(self) -> None:
        while True:
            self.starts += 1
            self.worker = self._lab.fleet.launch(*self._start)
            while self.worker.code is None:  # noqa: ASYNC110  (it is another process)
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@fault(
    "poison-io", "jobs", "a job that kills its worker each time, among 10 that take longer",
    "a dead letter after its 5 tries; the others are done, whoever they ran beside",
    deadline=30,
)  # fmt: skip
async def poison_io(lab: Lab) -> None:
    await lab.enqueue("nap", 5, seconds=0.5)
    (poison,) = await lab.enqueue("kill_own_worker", 1, expect="failed TriesExhausted")
    await lab.enqueue("nap", 5, seconds=0.5)
    keeper = Supervisor(lab, "io", "--concurrency", "40")
    await lab.wait_recorded(11, 30)
    await keeper.stop()
    letters = await dead.ids(lab.client)
    lab.check(letters == [poison], f"{len(letters)} dead letters, expected the poison alone")
    lab.check(bool(await lab.client.hget(keys.dead(poison), "payload")), "its payload is gone")
    starts = sum(one.id == poison for one in lab.entries("start"))
    lab.check(starts == 5, f"the poison started {starts} times")
    lab.note(f"{keeper.starts - 1} workers died of it")


@fault(
    "poison-cpu", "jobs", "CPU jobs that kill their process each time, among 40 others",
    "dead letters at once (a crash is a failure); the others are done",
)  # fmt: skip
async def poison_cpu(lab: Lab) -> None:
    worker = await lab.fleet.start("cpu")
    await lab.enqueue("compute", 20, seconds=0.01)
    ids = await lab.enqueue("kill_own_process", 5, expect="failed ProcessDied")
    await lab.enqueue("compute", 20, seconds=0.01)
    await lab.wait_recorded(45)
    lab.check(sorted(await dead.ids(lab.client)) == ids, "other jobs are among the dead letters")
    lab.check(worker.code is None, "the worker ended")


async def _put(lab: Lab, payloads: dict[str, bytes], run: str, expect: str) -> None:
    """Enqueue bytes as they are, as any client of the broker can."""
    jobs = [NewJob(job_id, data) for job_id, data in payloads.items()]
    await lab.store.enqueue_many(keys.IO_QUEUE, jobs, run)
    lab.acknowledged(payloads, expect)


@fault(
    "unknown-function", "jobs", "jobs of a function that the workers do not have",
    "parked as dead letters with their payloads; retried in bulk where it is known, all are done",
)  # fmt: skip
async def unknown_function(lab: Lab) -> None:
    old = await lab.fleet.start("io")
    run = await lab.open_run()
    jobs = [lab.job(f"{run}-{number:07d}", "added_later") for number in range(50)]
    await lab.enqueue_through(lab.store, "io", jobs, run)
    await lab.wait_recorded(50)
    statuses = {one.status for one in await lab.records()}
    lab.check(statuses == {"failed UnknownFunction"}, f"outcomes {statuses}")
    old.send(signal.SIGTERM)
    await old.wait()
    await lab.fleet.start("io", modules=["chaoslab.jobs", "chaoslab.newer_jobs"])
    refused = await lab.store.revive(await dead.ids(lab.client))
    lab.check(not refused, f"{len(refused)} could not be retried")
    lab.lives = {one.id: 2 for one in jobs}


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


@fault(
    "corrupt-payload", "jobs", "payloads that are noise, cut short, pickles, or something else",
    "recorded as UndecodablePayload; nothing is unpickled; the others are done",
)  # fmt: skip
async def corrupt_payload(lab: Lab) -> None:
    worker = await lab.fleet.start("io")
    run = await lab.open_run()
    whole = lab.job(f"{run}-0000000", "nap", seconds=0.0).payload
    traps = [lab.directory / f"trap-{protocol}" for protocol in range(6)]
    corrupt = [lab.random.randbytes(200) for _ in range(20)]
    corrupt += [whole[:cut] for cut in range(0, len(whole), 7)]
    corrupt += [pickle.dumps(Trap(path), protocol) for protocol, path in enumerate(traps)]
    corrupt += [b"", b"\xc0", wire.dumps([1, 2, 3])]
    payloads = {f"{run}-{number:07d}": data for number, data in enumerate(corrupt)}
    await _put(lab, payloads, run, "failed UndecodablePayload")
    await lab.enqueue("nap", 20, seconds=0.0)
    await lab.wait_recorded(len(payloads) + 20)
    lab.check(not any(one.exists() for one in traps), "a pickle was unpickled")
    lab.check(worker.code is None, "the worker ended")


@fault(
    "payload-over-the-limit", "jobs", "payloads of 17 MiB, put there past our own producer",
    "recorded as PayloadTooLarge without being decoded; the others are done",
)  # fmt: skip
async def payload_over_the_limit(lab: Lab) -> None:
    worker = await lab.fleet.start("io")
    run = await lab.open_run()
    job = lab.job(f"{run}-0000000", "give_back", size=0, padding=bytes(17 * MEBIBYTE))
    await _put(lab, {job.id: job.payload}, run, "failed PayloadTooLarge")
    await lab.enqueue("nap", 20, seconds=0.0)
    await lab.wait_recorded(21)
    lab.check(worker.code is None, "the worker ended")


@fault(
    "deep-nesting", "jobs", "arguments nested 100,000 deep",
    "refused by the producer; recorded as UndecodablePayload where they come past it",
)  # fmt: skip
async def deep_nesting(lab: Lab) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    try:
        wire.dumps(nested)
        lab.check(False, "they were encoded")
    except NotEncodable:
        pass
    while nested:  # taken apart in a loop: freeing it in one go may overflow the C stack
        nested = nested.pop()
    worker = await lab.fleet.start("io")
    run = await lab.open_run()
    depth = b"\x91" * 100_000 + b"\xc0"
    whole = lab.job(f"{run}-0000000", "nap", seconds=0.0).payload
    key = wire.dumps("seconds")
    at = whole.index(key) + len(key)
    payloads = {f"{run}-0000000": whole[:at] + depth + whole[at + 9 :], f"{run}-0000001": depth}
    await _put(lab, payloads, run, "failed UndecodablePayload")
    await lab.enqueue("nap", 20, seconds=0.0)
    await lab.wait_recorded(22)
    lab.check(worker.code is None, "the worker ended")


@fault(
    "old-backlog", "jobs", "a backlog that has waited for 25 hours",
    "kept, and done when a worker comes: payloads do not expire",
)  # fmt: skip
async def old_backlog(lab: Lab) -> None:
    ids = await lab.enqueue("nap", 200, seconds=0.0)
    now = int((await lab.client.time())[0]) * 1000
    await lab.client.zadd(keys.IO_QUEUE, dict.fromkeys(ids, now - 25 * HOUR_MS))
    expiring = [one for one in ids if await lab.client.pttl(keys.job(one)) != -1]
    lab.check(not expiring, f"{len(expiring)} payloads would expire")
    await lab.fleet.start("io")
    await lab.wait_recorded(200)
    waits = [one.outcome.wait_ms for one in await lab.records()]
    lab.check(min(waits) >= 25 * HOUR_MS, "the wait is not told as it was")


@fault(
    "result-over-the-limit", "jobs", "results of 17 MiB (IO lane)",
    "recorded as ResultTooLarge, once; the others are done",
)  # fmt: skip
async def result_over_the_limit(lab: Lab) -> None:
    worker = await lab.fleet.start("io")
    await lab.enqueue("give_back", 2, expect="failed ResultTooLarge", size=17 * MEBIBYTE)
    await lab.enqueue("give_back", 5, size=MEBIBYTE)
    await lab.wait_recorded(7)
    lab.check(worker.code is None, "the worker ended")


@fault(
    "ten-producers-one-id", "jobs", "the same 100 ids enqueued by ten producers at once",
    "each is accepted once, and runs once",
)  # fmt: skip
async def ten_producers_one_id(lab: Lab) -> None:
    workers = [lab.fleet.launch("io") for _ in range(2)]
    await ready(*workers)
    run = await lab.open_run()
    jobs = [lab.job(f"{run}-{number:07d}", "nap", seconds=0.01) for number in range(100)]
    clients = [connect(lab.server.url) for _ in range(10)]

    async def produce(client: Redis) -> int:
        store, refused = Store(client), 0
        mine = lab.random.sample(jobs, len(jobs))
        for first in range(0, len(mine), 10):
            refused += len(await store.enqueue_many(keys.IO_QUEUE, mine[first : first + 10], run))
        return refused

    refusals = await asyncio.gather(*map(produce, clients))
    lab.acknowledged([one.id for one in jobs])
    for one in clients:
        await one.aclose()
    lab.check(sum(refusals) == 900, f"{sum(refusals)} of 900 refused")
    await lab.wait_recorded(100)
    lab.check(len(lab.entries("start")) == 100, "a job ran twice")


async def _judge_race(lab: Lab, ids: list[str]) -> None:
    """Each is done or cancelled, its effect tells which, and both have won often."""
    await lab.wait_recorded(len(ids))
    statuses = {one.id: one.status for one in await lab.records()}
    lab.check(set(statuses.values()) <= {"done", "cancelled"}, f"outcomes {set(statuses.values())}")
    effects = {one.id for one in lab.entries("effect")}
    done = {one for one, status in statuses.items() if status == "done"}
    lab.check(done == effects, f"{len(done ^ effects)} outcomes belie what their jobs did")
    cancelled = len(ids) - len(done)
    lab.check(min(len(done), cancelled) >= 10, f"no race: {len(done)} done, {cancelled} cancelled")
    lab.note(f"{len(done)} done, {cancelled} cancelled")


@fault(
    "cancel-races-start", "jobs", "each of 400 jobs cancelled about when it starts",
    "done with its effect, or cancelled without it, and never both",
)  # fmt: skip
async def cancel_races_start(lab: Lab) -> None:
    await start_workers(lab)
    ids = await lab.enqueue("nap", 400, expect="", seconds=0.05)
    await lab.wait_entries("start", 1)  # or a machine at its limit cancels all before any starts
    began = time.monotonic()
    moments = sorted((lab.random.uniform(0, 0.6), one) for one in ids)
    while moments:
        await asyncio.sleep(max(0.0, began + moments[0][0] - time.monotonic()))
        # All that are due: one by one they would come later and later.
        over = time.monotonic() - began
        due = [one for moment, one in moments if moment <= over]
        if due:
            await cancel_jobs(lab.client, due)
        del moments[: len(due)]
    await _judge_race(lab, ids)


@fault(
    "cancel-races-end", "jobs", "each of 400 jobs cancelled about when it ends",
    "done with its effect, or cancelled without it, and never both",
)  # fmt: skip
async def cancel_races_end(lab: Lab) -> None:
    await start_workers(lab, options=("--concurrency", "10"))
    took, lead, ended = 0.05, 0.0, 0
    ids = await lab.enqueue("nap", 400, expect="", seconds=took)
    ends: list[tuple[float, str]] = []
    while ended < len(ids):
        for one in lab.ledger.read_new():
            if one.kind == "start":
                end = one.at_ns / 1e9 + took + lab.random.uniform(-0.005, 0.005)
                heapq.heappush(ends, (end, one.id))
            elif one.kind in ("effect", "cancelled"):
                ended += 1
                # Where the end came first the next cancellations go out a little sooner, and the
                # other way about: so the race is even, however busy the machine is.
                lead += 0.0005 if one.kind == "effect" else -0.0005
        due = []
        while ends and ends[0][0] - lead <= time.monotonic():
            due.append(heapq.heappop(ends)[1])
        if due:
            await cancel_jobs(lab.client, due)
        await asyncio.sleep(0.001)
    await _judge_race(lab, ids)


@fault(
    "cancel-races-retry", "jobs", "200 jobs that fail and are retried every 10 ms, then cancelled",
    "each is recorded as cancelled, once", deadline=15,
)  # fmt: skip
async def cancel_races_retry(lab: Lab) -> None:
    workers = [lab.fleet.launch("io", "--concurrency", "20") for _ in range(2)]
    await ready(*workers)
    ids = await lab.enqueue("always_fail", 200, expect="cancelled")
    await lab.wait_entries("start", 400)
    for one in lab.random.sample(ids, len(ids)):
        await cancel_jobs(lab.client, [one])
    await lab.wait_recorded(200, 15)


@fault(
    "retries", "jobs", "200 jobs that fail twice, on two workers that are killed in turn",
    "each is done after its failures; a worker's death costs a try, not the job",
    deadline=20,
)  # fmt: skip
async def retries(lab: Lab) -> None:
    await lab.enqueue("fail_twice", 200)
    for _ in range(2):
        doomed = await lab.fleet.start("io", "--concurrency", "20")

        async def at_work(pid: int = doomed.pid) -> bool:
            return sum(one.worker == pid for one in lab.entries("start")) >= 50

        await lab.wait(at_work, "jobs on the worker that is to die")
        doomed.send(signal.SIGKILL)
        await doomed.wait()
    lab.check(len(await lab.records()) < 200, "all jobs were over before the second death")
    await lab.fleet.start("io", "--concurrency", "20")
    await lab.wait_recorded(200)
