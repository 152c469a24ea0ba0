"""What befalls what the server holds: no memory for it, no writes to it, parts of it deleted."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from chaoslab.catalog import fault
from chaoslab.lab import Lab
from chaoslab.load import Load, start_workers
from chaoslab.places import free_port
from producer.collect import Collected, follow
from twolane import keys
from twolane.errors import JobsLost, TwolaneError, UnknownRun


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
    # So far below that what ends meanwhile makes no room.
    await lab.client.config_set("maxmemory", str(used // 2))
    lab.check(await _is_full(lab), "enqueueing did not fail")
    (lab.directory / "go").touch()
    await lab.wait_recorded(30)
    lab.check(await _is_full(lab), "there was room again before all had ended")
    await lab.client.config_set("maxmemory", "0")
    await lab.enqueue("nap", 10, seconds=0.0)


async def _is_full(lab: Lab) -> bool:
    """Whether enqueueing is refused for want of memory."""
    try:
        await lab.enqueue("nap", 10, seconds=0.0)
    except OutOfMemoryError:
        return True
    except ResponseError as error:
        return "OOM" in str(error)
    return False


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
    errors = await lab.client.info("errorstats")
    missed = int(errors.get("errorstat_NOSCRIPT", {}).get("count", 0))
    lab.check(missed > 20, f"a script was missed {missed} times only")
    lab.note(f"{missed} calls of a script that was gone")


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
    deleted = await lab.client.delete(*(keys.in_progress(one.id) for one in starts))
    lab.check(deleted == 20, f"{deleted} leases were there")
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
    deleted = await lab.client.delete(*map(keys.job, [*running, *waiting]))
    lab.check(deleted == 40, f"{deleted} payloads were there")
    (lab.directory / "go").touch()
    await lab.wait_recorded(40)
    lab.check(worker.code is None, "the worker ended")


async def _wait_told(
    lab: Lab, following: asyncio.Task[Any], since: float, error: type[TwolaneError], text: str
) -> None:
    """Wait until who follows a run is told what became of it."""
    await asyncio.wait([following], timeout=15)
    told = following.exception() if following.done() else None
    right = isinstance(told, error) and text in str(told)
    lab.check(right, f"who waits for the run is told {told!r}" if told else "nobody is told")
    lab.note(f"told after {time.monotonic() - since:.1f} s")


@fault(
    "flushall", "Valkey", "FLUSHALL in the middle of a run",
    "who waits for the run is told that its data was deleted; workers go on with the next one",
)  # fmt: skip
async def flushall(lab: Lab) -> None:
    workers = await start_workers(lab)
    ids = await lab.enqueue("nap", 500, seconds=0.1)
    run = ids[0].rpartition("-")[0]
    following = lab.go(follow(lab.client, run))
    await lab.wait_recorded(100)
    await lab.client.flushall()
    lab.forgotten |= set(ids)
    await _wait_told(lab, following, time.monotonic(), UnknownRun, "was deleted while it ran")
    await lab.enqueue("nap", 50, seconds=0.02)
    await lab.wait_recorded(50)
    lab.check(all(one.code is None for one in workers), "a worker ended")


@fault(
    "evicted", "Valkey",
    "a server that is short of memory evicts keys of all kinds (`allkeys-random`) under jobs that "
    "run and jobs that wait",
    "who waits for a run has all of its outcomes or is told; workers go on with the next one",
)  # fmt: skip
async def evicted(lab: Lab) -> None:
    workers = await start_workers(lab)
    go = str(lab.directory / "go")
    sets = [await lab.enqueue("hold", 40, expect="", go=go)]
    await lab.wait_entries("start", 40)
    # All slots are taken, so these wait.
    sets += [await lab.enqueue("nap", 30, expect="", seconds=0.01) for _ in range(10)]
    following = [lab.go(_follow(lab, ids)) for ids in sets]
    lab.forgotten |= {one for ids in sets for one in ids}
    payloads = [keys.job(one) for ids in sets for one in ids]
    count = await _evict(lab, int(await lab.client.dbsize()) // 3)
    left = int(await lab.client.exists(*payloads))
    lab.check(left < len(payloads), "no payload was evicted")
    (lab.directory / "go").touch()
    await asyncio.wait(following, timeout=20)
    ends = [one.exception() if one.done() else TimeoutError() for one in following]
    wrong = [one for one in ends if one and not isinstance(one, JobsLost | UnknownRun)]
    lab.check(not wrong, f"who waits for a run is told {wrong!r}")
    lab.note(f"{count} keys evicted, {sum(one is None for one in ends)} of {len(ends)} runs whole")
    after = await asyncio.wait_for(_follow(lab, await lab.enqueue("nap", 50, seconds=0.01)), 15)
    lab.check(len(after) == 50, "the next run is not whole")
    lab.check(all(one.code is None for one in workers), "a worker ended")


async def _follow(lab: Lab, ids: list[str]) -> Collected:
    return await follow(lab.client, ids[0].rpartition("-")[0])


async def _evict(lab: Lab, count: int) -> int:
    """Leave the server short of memory until it has evicted so many keys; how many it has."""
    await lab.client.config_set("maxmemory-policy", "allkeys-random")
    # From above, in small steps: one too large would evict all there is.
    limit = int((await lab.client.info("memory"))["used_memory"]) + 64 * 1024
    while (evicted := int((await lab.client.info("stats"))["evicted_keys"])) < count:
        limit -= 512
        await lab.client.config_set("maxmemory", str(limit))
    await lab.client.config_set("maxmemory", "0")
    await lab.client.config_set("maxmemory-policy", "noeviction")
    return evicted


async def _held(lab: Lab, count: int, slots: int = 20) -> tuple[list[str], set[str]]:
    """Jobs of one run, more than there are slots for; all ids, and those that run."""
    ids = await lab.enqueue("hold", count, go=str(lab.directory / "go"))
    starts = await lab.wait_entries("start", slots)

    async def only_those() -> bool:  # what was claimed ahead of them is given back
        return int(await lab.client.exists(*map(keys.in_progress, ids))) == slots

    await lab.wait(only_those, "the leases of what runs, and no others")
    return ids, {one.id for one in starts}


@fault(
    "queue-deleted", "Valkey", "the queue's key deleted with jobs that run and jobs that wait",
    "what runs has its place again, and outlives its worker; what waited is gone, and who waits "
    "for it is told when the rest is done", recovery=2.0,
)  # fmt: skip
async def queue_deleted(lab: Lab) -> None:
    (doomed,) = await start_workers(lab, 1)
    ids, running = await _held(lab, 30)
    following = lab.go(follow(lab.client, ids[0].rpartition("-")[0]))
    lab.check(await lab.client.delete(keys.IO_QUEUE) == 1, "there was no queue")
    lab.forgotten |= set(ids) - running

    async def have_places() -> bool:
        return await lab.waiting() == running

    await lab.wait(have_places, "the places of what runs")
    at = doomed.send(signal.SIGKILL)
    await doomed.wait()
    await start_workers(lab, 1)
    await lab.wait_entries("start", 40)
    lab.count_recovery(at)
    (lab.directory / "go").touch()
    await lab.wait_recorded(20)
    await _wait_told(lab, following, at, JobsLost, "10 of its 30 jobs will never run")
    await lab.enqueue("nap", 50, seconds=0.02)
    await lab.wait_recorded(70)


@fault(
    "job-keys-deleted", "Valkey",
    "of five running jobs each: the tries, the place in the queue, the lease, the payload, all of "
    "them; of five waiting ones each: the place, the place and the payload",
    "what runs is recorded, again or still, unless all is gone; who waits for the others is told",
    recovery=2.5,
)  # fmt: skip
async def job_keys_deleted(lab: Lab) -> None:
    (worker,) = await start_workers(lab, 1, options=("--concurrency", "25"))
    ids, running = await _held(lab, 35, 25)
    following = lab.go(follow(lab.client, ids[0].rpartition("-")[0]))
    runs, waits = sorted(running), sorted(set(ids) - running)
    wiped = runs[20:]
    no_tries, no_lease = [*runs[:5], *wiped], [*runs[10:15], *wiped]
    no_place, no_payload = [*runs[5:10], *wiped, *waits], [*runs[15:20], *wiped, *waits[5:]]
    at = time.monotonic()
    async with lab.client.pipeline(transaction=True) as pipe:
        pipe.zrem(keys.IO_QUEUE, *no_place)
        for key_of, gone in (
            (keys.retry, no_tries), (keys.in_progress, no_lease), (keys.job, no_payload),
        ):  # fmt: skip
            pipe.delete(*map(key_of, gone))
        await pipe.execute()
    lab.forgotten |= {*wiped, *waits}
    await lab.wait_entries("start", 30)
    lab.count_recovery(at)
    await lab.wait_entries("cancelled", 10)
    (lab.directory / "go").touch()
    await lab.wait_recorded(20)
    await _wait_told(lab, following, at, JobsLost, "15 of its 35 jobs will never run")
    lab.check(worker.code is None, "the worker ended")
