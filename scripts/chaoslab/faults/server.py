"""What befalls the Valkey server itself: it is restarted, killed, loses its disk or its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path

import psutil

from chaoslab.catalog import fault
from chaoslab.fleet import Worker
from chaoslab.lab import Lab
from chaoslab.load import Enqueue, Load, start_workers
from chaoslab.places import faketime
from chaoslab.proxy import Proxy
from twolane import keys
from twolane.broker import connect
from twolane.store import Store

# Of a worker during an outage, a second: an attempt wakes it a few times.
WAKES = 60


async def restart_under_load(lab: Lab, away_seconds: float, enqueue: Enqueue, lane: str) -> None:
    workers = await start_workers(lab, lane=lane)
    load = Load(lab, enqueue=enqueue)
    await lab.wait_recorded(50)
    await lab.server.stop()
    stopped = time.monotonic()
    before = sum(_cpu_seconds(one) for one in workers)
    waits = sum(map(_waits, workers))
    await asyncio.sleep(away_seconds)
    # A loop that tries, and sleeps for some milliseconds, costs little CPU time: it wakes up often.
    wakes = (sum(map(_waits, workers)) - waits) / away_seconds / len(workers)
    lab.check(wakes < WAKES, f"each worker woke up {wakes:.0f} times a second during the outage")
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
        told = one.log.count("broker away")
        lab.check(told <= 8, "a worker tells of each failed attempt")
        lab.check(told > 0 or lane == "arq", "a worker did not see the outage")
    await load.stop()
    lab.note(
        f"away {back - stopped:.1f} s, {spent:.1%} of a core and {wakes:.0f} wake-ups a second a "
        "worker meanwhile"
    )


def _waits(worker: Worker) -> int:
    """How often its threads have waited for something so far."""
    count = 0
    for one in Path(f"/proc/{worker.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found = re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", (one / "status").read_text())
            count += int(found[1]) if found else 0
    return count


def _cpu_seconds(worker: Worker) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return times.user + times.system


@fault(
    "restart-1s", "Valkey", "restart of 1 s under load",
    "workers and producers go on by themselves, without a tight loop", fsync="everysec",
    recovery=3.0,
)  # fmt: skip
async def restart_1s(lab: Lab) -> None:
    await restart_under_load(lab, 1.0, lab.enqueue, "io")


@fault(
    "restart-30s", "Valkey", "restart of 30 s under load",
    "workers and producers go on by themselves, without a tight loop", fsync="everysec",
    limit=90, recovery=3.0,
)  # fmt: skip
async def restart_30s(lab: Lab) -> None:
    await restart_under_load(lab, 30.0, lab.enqueue, "io")


async def _kill_server(lab: Lab, kills: int) -> None:
    await start_workers(lab)
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
    await start_workers(lab, 1)


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
    await start_workers(lab, 1, url=replica.url)


@fault(
    "server-clock", "Valkey", "the server's clock jumps an hour on, back, and on again, under load",
    "on: leases end, what runs starts again, once; back: what waits is held back by as much, what "
    "runs is recorded, what comes is done", needs="faketime", lease="2s", deadline=30,
)  # fmt: skip
async def server_clock(lab: Lab) -> None:
    clock = lab.directory / "clock"
    clock.write_text("+0")
    await lab.server.stop()
    lab.server.environ = faketime(clock)
    await lab.server.start()
    go = str(lab.directory / "go")
    workers = await start_workers(lab)
    load = Load(lab)
    await lab.enqueue("hold", 20, go=go)
    await lab.wait_recorded(50)
    clock.write_text("+3600")
    at = time.monotonic()

    async def jumped() -> bool:
        seconds, _ = await lab.client.time()
        return abs(int(seconds) - time.time() - 3600) < 60

    await lab.wait(jumped, "the jump of the server's clock", 3)
    await lab.wait_entries("cancelled", 20)
    settled = await load.stop()
    await lab.wait_recorded(settled)
    again = [one for one in lab.entries("start") if one.at_ns / 1e9 > at and one.try_ > 1]
    lab.recoveries += [one.at_ns / 1e9 - at for one in again]

    # All slots are taken, so these wait.
    await lab.enqueue("hold", 20, go=go)
    await lab.wait_entries("start", settled + 60)
    held_back = set(await lab.enqueue("nap", 10, seconds=0.0))
    clock.write_text("+0")
    (lab.directory / "go").touch()
    await lab.enqueue("nap", 50, seconds=0.02)
    await lab.wait_recorded(settled + 40 + 50)
    early = held_back & {one.id for one in lab.entries("start")}
    lab.check(not early, f"{len(early)} started that were due in an hour")

    clock.write_text("+3600")
    back = time.monotonic()
    await lab.wait_recorded(settled + 100)
    lab.note(f"what was held back ran {time.monotonic() - back:.1f} s after the clock was right")
    lab.check(all(one.code is None for one in workers), "a worker ended")
