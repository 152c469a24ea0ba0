"""What befalls the Valkey server, what it holds, and the connections to it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from chaoslab.catalog import fault
from chaoslab.fleet import Worker, ready
from chaoslab.lab import Lab
from chaoslab.places import free_port
from chaoslab.proxy import Proxy
from producer.collect import follow
from twolane import keys
from twolane.broker import connect
from twolane.errors import UnknownRun
from twolane.store import Store


class Load:
    """Producers that go on enqueueing, whatever becomes of the broker, until they are told."""

    def __init__(self, lab: Lab, client: Redis | None = None, size: int = 10) -> None:
        self._lab = lab
        self._client = client
        self._size = size
        self._stop = False
        self._task = asyncio.create_task(self._run())
        self.enqueued = 0

    async def _run(self) -> None:
        while not self._stop:
            await self._lab.enqueue("nap", self._size, client=self._client, seconds=0.02)
            self.enqueued += self._size
            await asyncio.sleep(0.05)

    async def stop(self) -> int:
        """Let the last call end; how many jobs were acknowledged."""
        self._stop = True
        await self._task
        return self.enqueued


async def _workers(lab: Lab, count: int = 2, url: str | None = None) -> list[Worker]:
    made = [lab.fleet.launch("io", "--concurrency", "20", url=url) for _ in range(count)]
    await ready(*made)
    return made


async def _restart(lab: Lab, away_seconds: float) -> None:
    workers = await _workers(lab)
    load = Load(lab)
    await lab.wait_recorded(50)
    await lab.server.stop()
    stopped = time.monotonic()
    before = sum(_cpu_seconds(one) for one in workers)
    await asyncio.sleep(away_seconds)
    spent = (sum(_cpu_seconds(one) for one in workers) - before) / away_seconds / len(workers)
    lab.check(spent < 0.25, f"each worker took {spent:.0%} of a core during the outage")
    await lab.server.start()
    back = time.monotonic()

    async def all_went_on() -> bool:
        since = {one.worker for one in lab.entries("start") if one.at_ns / 1e9 > back}
        return {one.pid for one in workers} <= since

    await lab.wait(all_went_on, "a start on each worker", 20)
    for one in workers:
        starts = [
            entry.at_ns / 1e9 - back
            for entry in lab.entries("start")
            if entry.worker == one.pid and entry.at_ns / 1e9 > back
        ]
        lab.recoveries += starts[:1]
        lab.check(one.log.count("broker away") <= 8, "a worker tells of each failed attempt")
    await load.stop()
    lab.note(f"away {back - stopped:.1f} s, {spent:.1%} of a core a worker meanwhile")


def _cpu_seconds(worker: Worker) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return times.user + times.system


@fault(
    "restart-1s", "Valkey", "restart of 1 s under load",
    "workers and producers go on by themselves, without a tight loop", fsync="everysec",
    recovery=3.0,
)  # fmt: skip
async def restart_1s(lab: Lab) -> None:
    await _restart(lab, 1.0)


@fault(
    "restart-30s", "Valkey", "restart of 30 s under load",
    "workers and producers go on by themselves, without a tight loop", fsync="everysec",
    limit=90, recovery=3.0,
)  # fmt: skip
async def restart_30s(lab: Lab) -> None:
    await _restart(lab, 30.0)


async def _kill_server(lab: Lab, kills: int) -> None:
    await _workers(lab)
    load = Load(lab)
    for number in range(kills):
        await lab.wait_recorded(60 * (number + 1))
        await asyncio.sleep(lab.random.uniform(0.1, 0.4))
        await lab.server.kill()
        await asyncio.sleep(0.2)
        await lab.server.start()
    await load.stop()


@fault(
    "sigkill-always", "Valkey", "SIGKILL of the server, three times, `appendfsync always`",
    "no acknowledged job is lost", fsync="always",
)  # fmt: skip
async def sigkill_always(lab: Lab) -> None:
    await _kill_server(lab, 3)


@fault(
    "sigkill-everysec", "Valkey", "SIGKILL of the server, three times, `appendfsync everysec`",
    "none: measured. The kernel has what was written, unless the machine dies with the server",
    fsync="everysec", keeps_promise=False, deadline=8,
)  # fmt: skip
async def sigkill_everysec(lab: Lab) -> None:
    await _kill_server(lab, 3)


@fault(
    "power-cut-everysec",
    "Valkey",
    "SIGKILL and the loss of all that was not on disk, `appendfsync everysec`",
    "none: measured. What was acknowledged since the last fsync is gone",
    fsync="everysec",
    keeps_promise=False,
    deadline=3,
    needs="strace",
)
async def power_cut_everysec(lab: Lab) -> None:
    # A killed process leaves its writes with the kernel. What a machine would lose with it is what
    # came after the last fsync: strace tells when that was, and the file is cut to what it had.
    trace = lab.directory / "trace"
    watcher = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-ttt", "-e", "trace=fdatasync,fsync", "-o", str(trace),
        "-p", str(lab.server.pid), stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    run = await lab.open_run()
    sizes: list[tuple[float, Path, int]] = []
    acknowledged: dict[str, float] = {}
    number = 0
    until = time.time() + lab.random.uniform(2.5, 3.5)
    while time.time() < until:
        job = lab.job(f"{run}-{number:07d}", "nap", seconds=0.0)
        await lab.store.enqueue_many(keys.IO_QUEUE, [job], run)
        acknowledged[job.id] = time.time()
        sizes.append((acknowledged[job.id], *lab.server.append_only_bytes()))
        number += 1
        await asyncio.sleep(0.001)
    at = time.time()
    lab.acknowledged(acknowledged)
    await lab.server.kill()
    await watcher.wait()
    synced = [
        float(line.split()[1])
        for line in (await asyncio.to_thread(trace.read_text)).splitlines()
        if "sync(" in line and line.endswith("= 0")
    ]
    on_disk = [(file, size) for moment, file, size in sizes if moment <= max(synced)]
    await asyncio.to_thread(os.truncate, *on_disk[-1])
    await lab.server.start()
    there = {keys.id_of(one) for one in await lab.client.zrange(keys.IO_QUEUE, 0, -1)}
    gone = [moment for job_id, moment in acknowledged.items() if job_id not in there]
    oldest_ms = max((at - moment for moment in gone), default=0.0) * 1000
    lab.check(oldest_ms < 2000, f"lost what was acknowledged {oldest_ms:.0f} ms before")
    lab.note(
        f"{len(gone):,} of {len(acknowledged):,} jobs lost: those of the last {oldest_ms:.0f} ms"
    )
    await _workers(lab, 1)


@fault(
    "failover", "Valkey", "SIGKILL of the server under load, its replica (20 ms away) promoted",
    "none: measured. Replication is asynchronous", keeps_promise=False, deadline=4,
)  # fmt: skip
async def failover(lab: Lab) -> None:
    async with Proxy(lab.server.port) as proxy:
        proxy.reply_latency = lambda: 0.02  # the replica stands in another place
        await _fail_over(lab, proxy.port)


async def _fail_over(lab: Lab, port: int) -> None:
    replica = await lab.server_like("replica", **{"repl-diskless-sync-delay": "0"})
    theirs = connect(replica.url)
    await lab.client.config_set("repl-diskless-sync-delay", "0")
    await theirs.execute_command("REPLICAOF", "127.0.0.1", str(port))

    async def linked() -> bool:
        return (await theirs.info("replication"))["master_link_status"] == "up"

    await lab.wait(linked, "the replica's link")
    run = await lab.open_run()
    number, ids = 0, []
    until = time.monotonic() + 1.0
    # Several at a time, so that some are on their way when the server dies.
    while time.monotonic() < until:
        jobs = [lab.job(f"{run}-{number + one:07d}", "nap", seconds=0.0) for one in range(50)]
        await asyncio.gather(
            *(lab.store.enqueue_many(keys.IO_QUEUE, [one], run) for one in jobs)
        )  # fmt: skip
        lab.acknowledged([one.id for one in jobs])
        ids += [one.id for one in jobs]
        number += len(jobs)
    await lab.server.kill()
    await theirs.execute_command("REPLICAOF", "NO", "ONE")
    there = {keys.id_of(one) for one in await theirs.zrange(keys.IO_QUEUE, 0, -1)}
    lab.note(f"{len(set(ids) - there)} of {len(ids):,} acknowledged jobs were not on the replica")
    await lab.client.aclose()
    lab.client, lab.store = theirs, Store(theirs)
    await _workers(lab, 1, url=replica.url)


@fault(
    "cut-before-the-script", "Valkey", "one in 10 calls of a script cut before the server has it",
    "every call may be sent again: nothing is lost, nothing recorded twice", deadline=30,
)  # fmt: skip
async def cut_before(lab: Lab) -> None:
    await _cut(lab, "before")


@fault(
    "cut-before-the-reply", "Valkey", "one in 10 replies of a script cut: it ran, nobody knows",
    "the same; a claim whose reply is lost comes back with its lease", deadline=30,
)  # fmt: skip
async def cut_after(lab: Lab) -> None:
    await _cut(lab, "after")


async def _cut(lab: Lab, where: str) -> None:
    async with Proxy(lab.server.port) as proxy:
        proxy.cut_at_random(lab.random, 0.1, where)  # type: ignore[arg-type]
        await _workers(lab, 2, url=proxy.url)
        client = connect(proxy.url)
        load = Load(lab, client)
        await lab.wait_recorded(1000, 40)
        count = await load.stop()
        await lab.settle()
        await client.aclose()
        await lab.fleet.stop()
        lab.check(proxy.cut > 10, f"only {proxy.cut} calls were cut")
        lab.note(f"{proxy.cut} calls cut, {count} jobs")


@fault(
    "latency", "Valkey", "50 to 250 ms of latency on each request", "slower, and nothing else",
    lease="3s", deadline=30,
)  # fmt: skip
async def latency(lab: Lab) -> None:
    async with Proxy(lab.server.port) as proxy:
        proxy.latency = lambda: lab.random.uniform(0.05, 0.25)
        await _workers(lab, 2, url=proxy.url)
        await lab.enqueue("nap", 200, seconds=0.02)
        await lab.wait_recorded(200, 30)
        lab.check(len(lab.entries("effect")) == 200, "a job ran twice")
        await lab.fleet.stop()


@fault(
    "half-open", "Valkey", "all connections of a worker go silent, without being closed",
    "it opens others by itself", limit=70, recovery=20.0, deadline=30,
)  # fmt: skip
async def half_open(lab: Lab) -> None:
    async with Proxy(lab.server.port) as proxy:
        (worker,) = await _workers(lab, 1, url=proxy.url)
        await lab.enqueue("nap", 20, seconds=0.02)
        await lab.wait_recorded(20)
        silent = proxy.swallow()
        at = time.monotonic()
        await lab.enqueue("nap", 20, seconds=0.02)
        starts = await lab.wait_entries("start", 40, 40)
        lab.recoveries += [one.at_ns / 1e9 - at for one in starts[20:]]
        await lab.wait_recorded(40, 20)
        lab.check(worker.code is None, "the worker ended")
        lab.note(f"{silent} connections silent")
        await lab.fleet.stop()


@fault(
    "maxmemory", "Valkey", "maxmemory reached, with jobs that run and jobs that wait",
    "enqueueing fails visibly; what runs and what waits ends and is recorded",
)  # fmt: skip
async def maxmemory(lab: Lab) -> None:
    go = str(lab.directory / "go")
    await lab.enqueue("hold", 30, go=go)
    await _workers(lab, 1)
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
    workers = await _workers(lab)
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
    await _workers(lab)
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
    await _workers(lab)
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
    (worker,) = await _workers(lab, 1)
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
    workers = await _workers(lab)
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
