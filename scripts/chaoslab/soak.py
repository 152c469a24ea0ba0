"""Mixes faults at random for a long time, and looks whether anything grows.

Two IO workers and a CPU worker live through all of it and are measured. Beside them workers come,
are killed, frozen or stopped; connections are cut, scripts flushed, leases deleted, the server
restarted. Jobs flow all the time: ordinary, failing, retried, cancelled, crashing. Results are kept
for some seconds and old runs are deleted, so that what is kept by right does not hide what is not;
and they come at a steady rate in a steady mixture, so that it does not grow or shrink by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import psutil

from chaoslab import judge
from chaoslab.catalog import Fault
from chaoslab.fleet import Worker, ready
from chaoslab.judge import Case
from chaoslab.lab import AWAY, Lab
from chaoslab.ledger import Entry
from chaoslab.samples import MINUTE, by_minute, nobodys, shuffled
from chaoslab.slopes import Slope, slope
from producer.cancel import cancel_jobs
from twolane import dead, keys

SAMPLE_SECONDS: Final = 1.0
BATCH_SECONDS: Final = 0.08  # from one batch of jobs to the next: some 100 jobs a second
FAULT_SECONDS: Final = 4.0  # from one fault to the next, on average
KEEP_SECONDS: Final = 20.0  # for how long a run is followed after its last job was enqueued
WARM_UP_SHARE: Final = 0.25  # of the time: caches fill, allocators find their size


class Report(msgspec.Struct):
    """What a soak came to.

    ``slopes`` are units an hour: estimate, low, high, mean. ``minutes`` are the means of each
    minute in turn, the time to warm up among them.
    """

    seconds: float
    seed: int
    jobs: int
    lost: int
    twice: int
    stale: int
    unsettled: int
    duplicates: int
    fenced: int
    faults: dict[str, int]
    slopes: dict[str, tuple[float, float, float, float]]
    minutes: dict[str, list[float]]
    broken: list[str]


class Soak:
    """One soak on one lab."""

    def __init__(self, lab: Lab, seconds: float, say: Callable[[str], None]) -> None:
        self._lab = lab
        self._seconds = seconds
        self._say = say
        self._choose = lab.random
        self._began = time.monotonic()
        self._measured: list[Worker] = []
        self._samples: dict[str, list[tuple[float, float]]] = {}
        self._faults: Counter[str] = Counter()
        self._open: dict[str, tuple[float, list[str]]] = {}
        self._judged: dict[str, list[str]] = {}  # and to be deleted
        self._entries: dict[str, list[Entry]] = {}
        self._totals: Counter[str] = Counter()
        self._broken: list[str] = []
        self._calm = asyncio.Event()
        self._calm.set()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    async def run(self) -> Report:
        self._measured = [
            self._lab.fleet.launch("io", "--concurrency", "20"),
            self._lab.fleet.launch("io", "--concurrency", "20"),
            self._lab.fleet.launch("cpu", "--max-jobs-per-process", "200"),
        ]
        await ready(*self._measured)
        self._began = time.monotonic()
        tasks = [
            asyncio.create_task(one)
            for one in (self._produce(), self._inject(), self._sample(), self._tell())
        ]
        done, _ = await asyncio.wait(
            tasks, timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION
        )
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in done:
            if error := one.exception():  # what was measured until then is told all the same
                traceback.print_exception(error)
                self._broken.append(f"ended after {self._elapsed:.0f} s by {error!r}")
        await self._calm.wait()
        return await self._end()

    # -- jobs ------------------------------------------------------------------------------------

    async def _produce(self) -> None:
        kinds: list[tuple[str, int, dict[str, Any], str]] = [
            ("nap", 20, {"seconds": 0.05}, ""),
            ("nap", 20, {"seconds": 0.3}, ""),
            ("compute", 4, {"seconds": 0.01}, ""),
            ("fail_twice", 5, {}, ""),
            ("kill_own_process", 1, {}, ""),
            ("zeros", 2, {"size": 100_000}, ""),
            ("give_back", 5, {"size": 10_000}, ""),
        ]
        due = time.monotonic()
        for function, count, arguments, expect in shuffled(kinds, self._choose):
            ids = await self._lab.enqueue(function, count, expect=expect, **arguments)
            run = ids[0].rpartition("-")[0]
            self._open[run] = (time.monotonic(), ids)
            if self._choose.random() < 0.1:
                with contextlib.suppress(*AWAY):
                    await cancel_jobs(self._lab.client, self._choose.sample(ids, 1))
            with contextlib.suppress(*AWAY):
                await self._close_old()
            # What was missed while the server was away is not made up for.
            due = max(due + BATCH_SECONDS, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _close_old(self, older_than: float = KEEP_SECONDS) -> None:
        """Judge the runs whose time is over, then delete what is kept of them."""
        await self._delete_judged()
        due = [
            run for run, (at, _) in self._open.items() if at + older_than < time.monotonic()
        ]  # fmt: skip
        if len(due) < 20 and older_than:
            return
        records = await self._lab.records_of(due)
        waiting = await self._lab.waiting()
        settled = {one.id for one in records}
        for one in self._lab.ledger.read_new():
            self._entries.setdefault(one.id, []).append(one)
        closed = []
        for run in due:
            at, ids = self._open[run]
            # One that a fault has kept is looked at later; at the end all are.
            if set(ids) - settled and older_than and at + 3 * older_than > time.monotonic():
                continue
            closed.append(run)
        wanted = [job_id for run in closed for job_id in self._open[run][1]]
        known = set(wanted)
        case = Case(
            dict.fromkeys(wanted, ""),
            [entry for one in wanted for entry in self._entries.pop(one, ())],
            [one for one in records if one.id in known],
            waiting,
        )
        self._totals["jobs"] += len(wanted)
        self._totals["duplicates"] += judge.duplicates(case)
        for name, find in judge.CRIMES.items():
            found = find(case)
            self._totals[find.__name__] += len(found)
            if found:
                self._broken.append(f"{len(found)} {name} ({', '.join(found[:3])})")
        # Before anything that the server may be away for: none is judged a second time, when the
        # ledger has nothing new of it.
        self._judged |= {run: self._open.pop(run)[1] for run in closed}
        await self._delete_judged()

    async def _delete_judged(self) -> None:
        for run, ids in list(self._judged.items()):
            await self._lab.client.delete(
                keys.run(run), keys.run_outcomes(run), *map(keys.result, ids)
            )
            await self._lab.client.zrem(keys.RUNS, run)
            await dead.drop(self._lab.client, ids)
            self._lab.forget([run])
            del self._judged[run]

    # -- faults ----------------------------------------------------------------------------------

    async def _inject(self) -> None:
        faults: list[Callable[[], Awaitable[None]]] = [
            self._come_and_be_killed, self._come_and_stop, self._freeze, self._flush_scripts,
            self._delete_leases, self._cut_clients, self._kill_a_process, self._restart,
        ]  # fmt: skip
        while True:
            await asyncio.sleep(self._choose.expovariate(1 / FAULT_SECONDS))
            inject = self._choose.choice(faults)
            self._calm.clear()
            try:
                with contextlib.suppress(*AWAY):
                    await asyncio.shield(asyncio.ensure_future(inject()))
            finally:
                self._calm.set()
            self._faults[inject.__name__.strip("_").replace("_", " ")] += 1

    async def _another(self) -> Worker:
        return await self._lab.fleet.start("io", "--concurrency", "20")

    async def _come_and_be_killed(self) -> None:
        one = await self._another()
        await asyncio.sleep(self._choose.uniform(0.2, 1.0))
        one.send(signal.SIGKILL)
        await one.wait()
        self._lab.fleet.workers.remove(one)

    async def _come_and_stop(self) -> None:
        one = await self._another()
        await asyncio.sleep(self._choose.uniform(0.2, 1.0))
        one.send(signal.SIGTERM)
        code = await one.wait()
        if code:
            self._broken.append(f"a worker that was stopped ended with {code}")
        self._lab.fleet.workers.remove(one)

    async def _freeze(self) -> None:
        one = self._choose.choice(self._measured[:2])
        one.send(signal.SIGSTOP)
        await asyncio.sleep(self._choose.uniform(0.5, 2.5))
        one.send(signal.SIGCONT)

    async def _flush_scripts(self) -> None:
        await self._lab.client.script_flush()

    async def _delete_leases(self) -> None:
        held = [one async for one in self._lab.client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")]
        if held:
            await self._lab.client.delete(*self._choose.sample(held, min(5, len(held))))

    async def _cut_clients(self) -> None:
        await self._lab.client.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")

    async def _kill_a_process(self) -> None:
        if processes := self._measured[2].of_pool():
            with contextlib.suppress(psutil.Error):
                self._choose.choice(processes).kill()

    async def _restart(self) -> None:
        await self._lab.server.stop()
        await asyncio.sleep(self._choose.uniform(0.1, 1.5))
        await self._lab.server.start()

    # -- figures ---------------------------------------------------------------------------------

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            for number, one in enumerate(self._measured):
                if one.code is not None:
                    raise RuntimeError(
                        f"{one.lane} worker {one.pid} ended with {one.code}: {one.log[-500:]}"
                    )
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(one.pid)
                    name = f"{one.lane} worker {number + 1}"
                    # Without the pages of files: the kernel takes them away when it likes.
                    memory = process.memory_info()
                    self._put(f"{name}: memory, MiB", (memory.rss - memory.shared) / 2**20)
                    self._put(f"{name}: descriptors", process.num_fds())
                    self._put(f"{name}: threads", process.num_threads())
            with contextlib.suppress(*AWAY, psutil.Error):
                if not self._lab.server.is_running:
                    continue
                info = await self._lab.client.info("memory")
                self._put("server: memory used, MiB", info["used_memory"] / 2**20)
                await self._count_keys()
                if self._lab.server.is_running:  # it may have been stopped meanwhile
                    server = psutil.Process(self._lab.server.pid)
                    self._put("server: descriptors", server.num_fds())

    async def _count_keys(self) -> None:
        client = self._lab.client
        followed = set(self._lab.followed)
        found = {one async for one in client.scan_iter(count=1000)}
        followed |= set(self._lab.followed)  # those that began during the scan
        rest = nobodys(found, followed)
        async with client.pipeline(transaction=False) as pipe:
            for one in rest:
                pipe.type(one)
            types = await pipe.execute()
            for one, kind in zip(rest, types, strict=True):
                if kind == b"zset":
                    pipe.zrange(one, 0, -1)
            entries = [one for some in await pipe.execute() for one in some]
        followed |= set(self._lab.followed)
        self._put("server: keys", len(found))
        # What runs that are followed have is theirs by right; the rest is to stay as it is.
        self._put("server: keys of no run that is followed", len(rest))
        self._put("server: entries of none in those", len(nobodys(entries, followed)))

    def _put(self, name: str, value: float) -> None:
        self._samples.setdefault(name, []).append((self._elapsed, value))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(min(MINUTE, self._seconds / 5))
            figures = ", ".join(
                f"{name} {values[-1][1]:,.0f}"
                for name, values in self._samples.items()
                if "memory" in name or "keys" in name
            )
            self._say(
                f"{self._elapsed:.0f} of {self._seconds:.0f} s, {self._totals['jobs']:,} jobs "
                f"judged, {sum(self._faults.values())} faults; {figures}"
            )

    def _slopes(self) -> dict[str, Slope]:
        from_ = self._elapsed * WARM_UP_SHARE
        found = {}
        for name, samples in self._samples.items():
            kept = [one for one in samples if one[0] >= from_]
            if len(kept) >= 3:
                found[name] = slope([at for at, _ in kept], [value for _, value in kept])
        return found

    async def _end(self) -> Report:
        slopes = self._slopes()
        seconds = self._elapsed

        async def empty() -> bool:
            return not await self._lab.waiting()

        with contextlib.suppress(TimeoutError):  # what is left then is counted as unsettled
            await self._lab.wait(empty, "empty queues", 30)
        fenced = await self._lab.fenced()
        codes = await self._lab.fleet.stop()
        if any(codes):
            self._broken.append(f"workers ended with exit codes {codes}")
        await self._close_old(older_than=0)
        # The time to tell is an hour; in less, a slope that is one can be chance.
        self._broken += [
            f"{name} grows by {one.per_hour:,.1f} an hour (95 %: {one.low:,.1f} to {one.high:,.1f})"
            for name, one in slopes.items()
            if one.grows and seconds >= 3000
        ]
        return Report(
            seconds=seconds,
            seed=0,
            jobs=self._totals["jobs"],
            lost=self._totals["lost"],
            twice=self._totals["twice"],
            stale=self._totals["stale"],
            unsettled=self._totals["unsettled"],
            duplicates=self._totals["duplicates"],
            fenced=fenced,
            faults=dict(sorted(self._faults.items())),
            slopes={name: tuple(one) for name, one in slopes.items()},
            minutes={name: by_minute(samples) for name, samples in self._samples.items()},
            broken=self._broken,
        )


async def _nothing(_: Lab) -> None:
    """The soak injects by itself."""


async def run(seconds: float, seed: int, say: Callable[[str], None]) -> Report:
    fault = Fault("soak", "fleet", "all of it, mixed", "nothing lost", _nothing, fsync="everysec")
    async with Lab(fault, seed) as lab:
        report = await Soak(lab, seconds, say).run()
    report.seed = seed
    return report
