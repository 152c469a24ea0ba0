"""What befalls what the server holds: no memory for it, no writes to it, parts of it deleted."""

from __future__ import annotations

import asyncio
import time

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from chaoslab.catalog import fault
from chaoslab.lab import Lab
from chaoslab.load import Load, start_workers
from chaoslab.places import free_port
from producer.collect import follow
from twolane import keys
from twolane.errors import UnknownRun


@fault(
    "maxmemory", "Valkey", "maxmemory reached, with jobs that run and jobs that wait",
    "enqueueing fails visibly; what runs and what waits ends and is recorded",
)  # fmt: skip
async def maxmemory(lab: Lab) -> None:
    go = str(lab.directory / "go")
    await lab.enqueue("hold", 30, go=go)
    await start_workers(lab, 1)
    await lab.wait_entries("start", 20)  # ten of them wait
    used = int((await lab.client.info("memory"))["used_memory"])
    await lab.client.config_set("maxmemory", str(used - 1))
    refused = False
    try:
        await lab.enqueue("nap", 10, seconds=0.0)
    except OutOfMemoryError:
        refused = True
    except ResponseError as error:
        refused = "OOM" in str(error)
    lab.check(refused, "enqueueing did not fail")
    (lab.directory / "go").touch()
    await lab.wait_recorded(30)
    await lab.client.config_set("maxmemory", "0")
    await lab.enqueue("nap", 10, seconds=0.0)


@fault(
    "read-only-replica", "Valkey", "the server becomes a read-only replica for 3 s under load",
    "enqueueing fails visibly; workers wait, and go on when it takes writes again",
)  # fmt: skip
async def read_only_replica(lab: Lab) -> None:
    workers = await start_workers(lab)
    await lab.enqueue("nap", 300, seconds=0.1)
    await lab.wait_recorded(60)
    await lab.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    refused = False
    try:
        await lab.enqueue("nap", 10, seconds=0.0)
    except (ReadOnlyError, ResponseError):
        refused = True
    lab.check(refused, "enqueueing did not fail")
    await asyncio.sleep(3)
    await lab.client.execute_command("REPLICAOF", "NO", "ONE")
    await lab.wait_recorded(300)
    lab.check(all(one.code is None for one in workers), "a worker ended")


@fault(
    "scripts-flushed", "Valkey", "SCRIPT FLUSH a hundred times under load (NOSCRIPT)",
    "the scripts are sent again; nobody notices", lease="3s",
)  # fmt: skip
async def scripts_flushed(lab: Lab) -> None:
    await start_workers(lab)
    load = Load(lab)
    for _ in range(100):
        await lab.client.script_flush()
        await asyncio.sleep(0.02)
    count = await load.stop()
    await lab.wait_recorded(count)
    lab.check(len(lab.entries("effect")) == count, "a job ran twice")


@fault(
    "leases-deleted", "Valkey", "the lease keys of running jobs deleted",
    "their attempts are stopped and fenced; they run again when their leases would have ended",
    recovery=2.5,
)  # fmt: skip
async def leases_deleted(lab: Lab) -> None:
    await start_workers(lab)
    await lab.enqueue("hold", 20, go=str(lab.directory / "go"))
    starts = await lab.wait_entries("start", 20)
    at = time.monotonic()
    await lab.client.delete(*(keys.in_progress(one.id) for one in starts))
    await lab.wait_entries("start", 40)
    await lab.wait_entries("cancelled", 20)
    lab.count_recovery(at)
    (lab.directory / "go").touch()


@fault(
    "payloads-deleted", "Valkey", "payloads deleted (or evicted) under running and waiting jobs",
    "running ones end as ever; waiting ones are recorded as ExpiredPayload, not passed over",
)  # fmt: skip
async def payloads_deleted(lab: Lab) -> None:
    (worker,) = await start_workers(lab, 1)
    running = await lab.enqueue("hold", 20, go=str(lab.directory / "go"))
    await lab.wait_entries("start", 20)
    waiting = await lab.enqueue("nap", 20, expect="failed ExpiredPayload", seconds=0.0)
    await lab.client.delete(*map(keys.job, [*running, *waiting]))
    (lab.directory / "go").touch()
    await lab.wait_recorded(40)
    lab.check(worker.code is None, "the worker ended")


@fault(
    "flushall", "Valkey", "FLUSHALL in the middle of a run",
    "who waits for the run is told that its data was deleted; workers go on with the next one",
)  # fmt: skip
async def flushall(lab: Lab) -> None:
    workers = await start_workers(lab)
    ids = await lab.enqueue("nap", 500, seconds=0.1)
    run = ids[0].rpartition("-")[0]
    waiting = asyncio.create_task(follow(lab.client, run))
    await lab.wait_recorded(100)
    await lab.client.flushall()
    lab.forgotten |= set(ids)
    at = time.monotonic()
    try:
        async with asyncio.timeout(10):
            await waiting
        lab.check(False, "who waits for the run is not told")
    except UnknownRun as error:
        lab.check("was deleted while it ran" in str(error), f"told: {error}")
        lab.note(f"told after {time.monotonic() - at:.1f} s")
    await lab.enqueue("nap", 50, seconds=0.02)
    await lab.wait_recorded(50)
    lab.check(all(one.code is None for one in workers), "a worker ended")
