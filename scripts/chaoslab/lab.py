"""What a fault gets to work with: a server, a fleet, a producer and a ledger of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaoslab import judge
from chaoslab.catalog import Fault
from chaoslab.fleet import TRACEBACK, Fleet
from chaoslab.judge import Case, Record, Row
from chaoslab.ledger import Entry, Kind, Ledger
from chaoslab.valkey import Valkey
from producer.submit import Caller, submit
from twolane import keys, outcome, runs
from twolane.broker import connect
from twolane.keys import LANES, QUEUES
from twolane.registry import Registry
from twolane.store import NewJob, Store

T = TypeVar("T")
POLL_SECONDS: Final = 0.02
AWAY: Final = (RedisError, OSError)
JUDGE_SECONDS: Final = 30.0


class Lab:
    """One injection of one fault. A context manager; nothing of it is left behind."""

    def __init__(self, fault: Fault, seed: int) -> None:
        self.fault = fault
        self.random = random.Random(f"{seed}/{fault.name}")
        # A Unix socket's address is short; the default folder for temporary files may not be.
        self.directory = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
        self.ledger = Ledger(self.directory / "ledger")
        self.server = Valkey(self.directory / "valkey", fault.fsync, fault.settings)
        self.fleet = Fleet(self.directory, self.server.url, self.ledger.path, fault.lease)
        self.caller = Caller(Registry.load(["chaoslab.jobs"]))
        self.expected: dict[str, str] = {}
        self.lives: dict[str, int] = {}
        self.forgotten: set[str] = set()
        self.recoveries: list[float] = []
        self.broken: list[str] = []
        self.notes: list[str] = []
        # Where outcomes are that no run has.
        self.record_sources: list[Callable[[], Awaitable[list[Record]]]] = []
        self.kept_records: list[Record] = []
        self._runs: list[str] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self._servers = [self.server]

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.client: Redis = connect(self.server.url)
        self.store = Store(self.client)
        return self

    def go(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do this beside the fault, until the fault is over at the most."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def failures(self) -> list[BaseException]:
        """What went wrong beside the fault."""
        over = [one for one in self._tasks if one.done() and not one.cancelled()]
        return [error for one in over if (error := one.exception()) is not None]

    async def stop_all(self) -> None:
        """End at once what goes on: producers, so that no job is acknowledged any more, workers."""
        for one in self._tasks:
            one.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.fleet.end()

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()
        await self.client.aclose()
        for one in self._servers:
            await one.remove()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- the producer ----------------------------------------------------------------------------

    async def enqueue(
        self,
        function: str,
        count: int = 1,
        *,
        expect: str = "done",
        client: Redis | None = None,
        **arguments: Any,
    ) -> list[str]:
        """Enqueue jobs as one run, as a producer does; their ids, which the ledger has then."""
        name = self.new_run()
        ids = [runs.job_id(name, number) for number in range(count)]
        calls = [self.caller.call(function, {"key": one, **arguments}) for one in ids]
        await submit(client or self.client, calls, "chaos", name)
        self.acknowledged(ids, expect)
        return ids

    @property
    def followed(self) -> Sequence[str]:
        """The runs there are, but those that were forgotten."""
        return self._runs

    def new_run(self) -> str:
        name = f"{self.fault.name}-{next(self._numbers)}"
        self._runs.append(name)
        return name

    def acknowledged(self, ids: Iterable[str], expect: str = "done") -> None:
        known = list(ids)
        self.ledger.acknowledge(known)
        self.expected |= dict.fromkeys(known, expect)

    def job(self, job_id: str, function: str, **arguments: Any) -> NewJob:
        """A job for the store, of an id and a run that the caller chooses."""
        from twolane import wire

        run = job_id.rpartition("-")[0]
        payload = {
            "t": None, "f": function, "a": [], "k": {"key": job_id, **arguments},
            "et": time.time_ns() // 1_000_000, "run": run,
        }  # fmt: skip
        return NewJob(job_id, wire.dumps(payload))

    async def enqueue_through(
        self, store: Store, lane: str, jobs: list[NewJob], run: str, expect: str = "done"
    ) -> int:
        """Enqueue until the broker has answered, as a producer of given ids may; the retries."""
        retries = 0
        while True:
            try:
                await store.enqueue_many(QUEUES[lane], jobs, run)
            except AWAY:
                retries += 1
                await asyncio.sleep(0.05)
            else:
                self.acknowledged([one.id for one in jobs], expect)
                return retries

    async def open_run(self) -> str:
        """A run that jobs of given ids can be put into."""
        name = self.new_run()
        await runs.create(self.client, "chaos", name)
        return name

    # -- waiting ---------------------------------------------------------------------------------

    def entries(self, kind: Kind | None = None) -> list[Entry]:
        return self.ledger.read(kind)

    async def wait(
        self, condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 20.0
    ) -> Any:
        """Look again and again until the answer is true; that answer."""
        deadline = time.monotonic() + seconds
        while not (answer := await condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s: {what}")
            await asyncio.sleep(POLL_SECONDS)
        return answer

    async def wait_entries(self, kind: Kind, count: int, seconds: float = 20.0) -> list[Entry]:
        async def enough() -> list[Entry] | None:
            found = self.entries(kind)
            return found if len(found) >= count else None

        return list(await self.wait(enough, f"{count} lines {kind!r} in the ledger", seconds))

    async def wait_recorded(self, count: int, seconds: float = 20.0) -> None:
        async def enough() -> bool:
            return await self._settled() >= count

        await self.wait(enough, f"{count} outcomes", seconds)

    async def _settled(self) -> int:
        """How many outcomes the runs count, and there are beside them."""
        async with self.client.pipeline(transaction=False) as pipe:
            for one in self._runs:
                pipe.hmget(keys.run(one), "done", "failed", "cancelled")
            settled = sum(int(count or 0) for counts in await pipe.execute() for count in counts)
        return settled + len(await self._other_records())

    # -- verdicts --------------------------------------------------------------------------------

    def check(self, holds: bool, otherwise: str) -> None:
        """A promise of this fault's own."""
        if not holds:
            self.broken.append(otherwise)

    def note(self, text: str) -> None:
        """A measured figure for the table."""
        self.notes.append(text)

    def count_recovery(self, since: float) -> None:
        """Note how long the jobs that ran at a time (monotonic, s) took to start again."""
        self.recoveries += judge.recoveries(self.entries(), round(since * 1e9))

    async def server_like(self, name: str, **settings: str) -> Valkey:
        """One more server, started."""
        other = Valkey(self.directory / name, None, settings)
        self._servers.append(other)
        await other.start()
        return other

    async def records(self) -> list[Record]:
        return await self.records_of(self._runs) + await self._other_records()

    async def _other_records(self) -> list[Record]:
        return [*self.kept_records, *[one for read in self.record_sources for one in await read()]]

    def forget(self, names: Iterable[str]) -> None:
        """Follow these runs no more."""
        gone = set(names)
        self._runs = [one for one in self._runs if one not in gone]
        self.expected = {
            one: status
            for one, status in self.expected.items()
            if one.rpartition("-")[0] not in gone
        }

    async def records_of(self, names: Iterable[str]) -> list[Record]:
        found = []
        for run in names:
            for entry, fields in await self.client.xrange(keys.run_outcomes(run)):
                at_ms = int(entry.partition(b"-")[0])
                found += [Record(at_ms, outcome.decode(one)) for one in fields.values()]
        return found

    async def waiting(self) -> set[str]:
        """The ids in the queues, whether they wait or are under lease."""
        found = set()
        for lane in LANES:
            found |= {keys.id_of(one) for one in await self.client.zrange(QUEUES[lane], 0, -1)}
        return found

    async def settle(self) -> None:
        """Wait until each acknowledged job is recorded, until the deadline at the most."""
        deadline = time.monotonic() + self.fault.deadline
        wanted = set(self.expected) - self.forgotten
        while time.monotonic() < deadline:
            with contextlib.suppress(*AWAY):
                if await self._settled() >= len(wanted):
                    counts = judge.Counter(one.id for one in await self.records())
                    if all(counts[one] >= self.lives.get(one, 1) for one in wanted):
                        return
            await asyncio.sleep(POLL_SECONDS)

    async def end_fleet(self) -> None:
        """Let the workers end, as they should."""
        codes = await self.fleet.stop()
        self.check(not any(codes), f"workers ended with exit codes {sorted(filter(None, codes))}")

    async def judge(self, row: Row) -> None:
        """Look at all that was left behind, once nothing goes on any more."""
        fault, was_broken = self.fault, bool(self.broken)
        if not fault.may_trace:
            traced = sum(TRACEBACK in one.log for one in self.fleet.workers)
            self.check(not traced, f"{traced} workers logged a traceback")
        entries = self.entries()
        row.jobs, row.note = len(self.expected), "; ".join(self.notes)
        row.duplicates = judge.duplicates(Case(self.expected, entries, [], lives=self.lives))
        if self.recoveries:
            row.recovery_p50 = judge.percentile(self.recoveries, 0.50)
            row.recovery_p99 = judge.percentile(self.recoveries, 0.99)
        if fault.recovery is not None and (self.recoveries or not was_broken):
            found_p99 = row.recovery_p99
            self.check(
                found_p99 is not None and found_p99 <= fault.recovery,
                f"recovery p99 {found_p99 if found_p99 is None else round(found_p99, 2)} s, "
                f"promised {fault.recovery:g} s",
            )
        row.lost = row.twice = row.stale = row.unsettled = row.fenced = None  # the server knows
        case = Case(
            self.expected, entries, await self.records(), await self.waiting(), self.lives,
            self.forgotten,
        )  # fmt: skip
        for name, find in judge.CRIMES.items():
            found = find(case)
            if find.__name__ in row.__struct_fields__:
                setattr(row, find.__name__, len(found))
            measured = name == "lost" and not fault.keeps_promise
            self.check(measured or not found, f"{len(found)} {name} ({', '.join(found[:3])})")
        self.broken += judge.wrong(case)
        row.fenced = await self.fenced()
        if not case.waiting:
            held = [one async for one in self.client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")]
            self.check(not held, f"{len(held)} leases left of jobs that are over")

    def keep_logs(self, to: Path) -> None:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.ledger.path, to)
        for log in self.directory.glob("*.log"):
            shutil.copy(log, to)
        for server in self._servers:
            shutil.copy(server.directory / "log", to / f"{server.directory.name}.log")

    async def fenced(self) -> int:
        """How many attempts were refused, or stopped by their own workers."""
        refused = 0
        for lane in LANES:
            refused += int(await self.client.hget(keys.counters(QUEUES[lane]), "fenced") or 0)
        return refused + self.fleet.lost_leases() + self.fleet.refused()


async def run(fault: Fault, seed: int, keep: Path | None = None) -> Row:
    """Inject one fault; what it came to, also where the injection itself failed.

    What was waited for in vain then is judged as it is: what is in a queue still, or under lease,
    is unsettled. Figures that only a server which is gone could give are None.

    Where a promise was broken, the logs of the workers and of the servers, and the ledger, are
    copied below ``keep``.
    """
    began = time.monotonic()
    row = Row(fault.name, fault.area, fault.what, keeps_promise=fault.keeps_promise)
    try:
        async with Lab(fault, seed) as lab:
            row.broken = lab.broken
            try:
                async with asyncio.timeout(fault.limit) as limit:
                    await fault.inject(lab)
                    await lab.settle()
                    row.seconds = time.monotonic() - began
                    await lab.end_fleet()
            except Exception as error:  # whatever it is: a row says so, the others go on
                row.seconds = time.monotonic() - began
                what = _told(error)
                if limit.expired():
                    what = f"not over within {fault.limit:g} s"
                lab.broken += [what, *map(_told, lab.failures())]
                await lab.stop_all()
            try:
                async with asyncio.timeout(JUDGE_SECONDS):
                    await lab.judge(row)
            except Exception as error:
                lab.broken.append(f"not judged: {_told(error)}")
            if row.broken:
                row.logs = lab.fleet.excerpts()
                if keep is not None:
                    lab.keep_logs(keep / f"{fault.name}-{seed}")
    except Exception as error:  # the server does not start, or does not end
        row.broken = [*row.broken, _told(error)]
    return row


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
