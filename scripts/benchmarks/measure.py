"""Takes one measurement of one contestant.

A rate is measured thus: the workers are started on an empty queue and given jobs until each of
them has run some; then they are stopped (SIGSTOP), the queue is filled, and they are let go
(SIGCONT). The time counts from there to the last job's end, or to the limit. So neither start-up
nor enqueueing counts, and all workers of a fleet begin at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import processes
from benchmarks.board import Board
from benchmarks.contestants import Contestant
from benchmarks.plan import Kind, Plan
from benchmarks.processes import ContestantFailed, Talker, Tree, wait_until
from benchmarks.report import Sample
from benchmarks.server import Server
from benchmarks.summary import percentile
from benchmarks.workloads import Profile, Workload, jobs_of
from twolane.cores import usable_cores

WARM_UP_SECONDS: Final = 0.2  # of each job that warms up; all slots are filled with them
WARM_UP_TRIES: Final = 5  # until every process has had one
READY_SECONDS: Final = 40.0
SETTLE_SECONDS: Final = 0.3  # for the last acknowledgements of the warm-up
LATENCY_HZ: Final = 50.0
LATE_SECONDS: Final = 5.0  # to wait for the last jobs of a latency run

CpuTimes = dict[tuple[int, float], float]


class Bench:
    """Measures contestants on one server; ``directory`` is for boards and logs."""

    def __init__(
        self, server: Server, profile: Profile, directory: Path, loops_per_ms: int
    ) -> None:
        self._server = server
        self._profile = profile
        self._directory = directory
        self._loops_per_ms = loops_per_ms

    def plan(self, workload: Workload, contestant: Contestant, board: Path | None = None) -> Plan:
        slots = usable_cores() if workload.slots == 0 or contestant.prefork else workload.slots
        options = dict(contestant.options)
        if contestant.environment == "celery" and workload.computes and workload.amount >= 10:
            options["prefetch"] = 4  # Celery's default: its guide wants many for short tasks only
        return Plan(
            self._server.url, slots, workload.computes, str(board) if board else "", options
        )

    def take(self, workload: Workload, contestant: Contestant, round_: int) -> Sample:
        """One measurement; a contestant that fails makes a sample that says so."""
        self._server.flush()
        sample = Sample(workload.name, contestant.name, round_)
        try:
            one = _Measurement(self, workload, contestant, sample)
            methods: dict[str, Callable[[], None]] = {
                "rate": one.rate,
                "fleet": one.rate,
                "enqueue": one.enqueue,
                "latency": one.latency,
                "idle": one.idle,
            }
            with processes.running(one.trees):
                methods[workload.method]()
        except (ContestantFailed, OSError) as error:
            sample.values, sample.error = {}, str(error)[-1500:]
        return sample

    # What one measurement needs of the run as a whole.

    @property
    def server(self) -> Server:
        return self._server

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def directory(self) -> Path:
        return self._directory

    def amount(self, workload: Workload) -> float:
        """Seconds for a job that waits, loops for one that computes."""
        return workload.amount * (self._loops_per_ms if workload.computes else 1)

    def warm_up(self, workload: Workload) -> tuple[Kind, float]:
        if workload.computes:
            return "compute", WARM_UP_SECONDS / 4 * 1000 * self._loops_per_ms
        return "wait", WARM_UP_SECONDS


class _Measurement:
    def __init__(
        self, bench: Bench, workload: Workload, contestant: Contestant, sample: Sample
    ) -> None:
        self._bench, self._workload, self._contestant = bench, workload, contestant
        self._sample = sample
        self._log = bench.directory / f"{workload.name}-{contestant.name}.log"
        self._count = jobs_of(workload, contestant, bench.profile)
        if workload.method == "latency":
            self._count = int(bench.profile.latency_seconds * LATENCY_HZ)
        path = bench.directory / "board"
        self._plan = bench.plan(workload, contestant, path)
        slots = 1 if contestant.one_at_a_time else self._plan.slots
        self._warm_ups = slots * workload.workers
        places = self._count + WARM_UP_TRIES * self._warm_ups
        self._board = Board.create(path, places)
        self._times = np.frombuffer(self._board.times, dtype=np.uint64)
        self._processes = np.frombuffer(self._board.processes, dtype=np.uint64)
        self.trees: list[Tree] = []

    # -- the methods -----------------------------------------------------------------------------

    def rate(self) -> None:
        workers = self._workers()
        producer = self._producer()
        self._warm_up(producer)
        order = {
            "kind": self._workload.kind,
            "first": 0,
            "count": self._count,
            "amount": self._bench.amount(self._workload),
        }
        if not self._contestant.queueless:
            for tree in workers:
                tree.freeze()
            producer.ask(**order)
        spent = _cpu_seconds(workers)
        before = self._bench.server.usage()
        began = time.monotonic_ns()
        if self._contestant.queueless:
            producer.order(**order)
        for tree in workers:
            tree.thaw()
        self._wait(self._limit())
        usage = self._bench.server.usage().since(before)
        done = self._done(0, self._count)
        sample = self._sample
        sample.cpu_seconds = difference(spent, _cpu_seconds(workers))
        sample.server_cpu_seconds = usage.cpu_seconds
        sample.server_calls, sample.server_micros = usage.calls, usage.micros
        sample.jobs, sample.completed = self._count, len(done)
        if not len(done):
            raise ContestantFailed(f"no job ended within {self._limit():g} s")
        sample.seconds = (int(done.max()) - began) / 1e9
        sample.values = {"rate": len(done) / sample.seconds}
        if self._workload.method == "fleet":
            if len(done) < self._count:
                raise ContestantFailed(f"only {len(done)} jobs ended in {self._limit():g} s")
            sample.values = {"seconds": sample.seconds}

    def enqueue(self) -> None:
        producer = self._producer()
        before = self._bench.server.usage()
        count = self._count
        # The first one loads code and scripts.
        producer.ask(kind="noop", first=0, count=100, amount=0)
        answer = producer.ask(kind="noop", first=0, count=count, amount=0)
        usage = self._bench.server.usage().since(before)
        sample = self._sample
        sample.jobs = sample.completed = count
        sample.seconds = answer["seconds"]
        sample.server_cpu_seconds = usage.cpu_seconds
        sample.server_calls, sample.server_micros = usage.calls, usage.micros
        sample.values = {"rate": count / sample.seconds}

    def latency(self) -> None:
        self._workers()
        producer = self._producer()
        self._warm_up(producer)
        answer = producer.ask(
            kind="noop", first=0, count=self._count, amount=0, interval=1 / LATENCY_HZ
        )
        self._wait(LATE_SECONDS)
        done = self._times[: self._count]
        if np.count_nonzero(done) < self._count:
            raise ContestantFailed(f"{np.count_nonzero(done)} of {self._count} jobs were run")
        waits = (done.astype(np.int64) - np.array(answer["intended_ns"], dtype=np.int64)) / 1e6
        sample = self._sample
        sample.details = [round(float(one), 4) for one in np.sort(waits)]
        sample.jobs = sample.completed = self._count
        sample.values = {
            "p50": percentile(sample.details, 50),
            "p99": percentile(sample.details, 99),
        }

    def idle(self) -> None:
        workers = self._workers()
        producer = self._producer()
        self._warm_up(producer)
        time.sleep(1)
        sample = self._sample
        before, began = _cpu_seconds(workers), time.monotonic()
        time.sleep(self._bench.profile.idle_seconds)
        sample.cpu_seconds = difference(before, _cpu_seconds(workers))
        sample.seconds = time.monotonic() - began
        memory = [tree.memory() for tree in workers]
        sample.values = {
            "cpu_percent": 100 * sample.cpu_seconds / sample.seconds,
            "rss_mb": sum(one.rss for one in memory) / 1e6,
            "pss_mb": sum(one.pss for one in memory) / 1e6,
        }

    # -- the parts -------------------------------------------------------------------------------

    def _launch(self, side: str) -> Tree:
        one = self._contestant
        tree = processes.launch(one.environment, side, one.module, self._plan, self._log)
        self.trees.append(tree)
        return tree

    def _workers(self) -> list[Tree]:
        if self._contestant.queueless:
            return []
        return [self._launch("serve") for _ in range(self._workload.workers)]

    def _producer(self) -> Talker:
        return Talker(self._launch("produce"))

    def _warm_up(self, producer: Talker) -> None:
        """Give every slot a job, again until every process has run one."""
        kind, amount = self._bench.warm_up(self._workload)
        processes_ = self._warm_ups if self._workload.computes else self._workload.workers
        for number in range(WARM_UP_TRIES):
            first = self._count + number * self._warm_ups
            last = first + self._warm_ups
            producer.ask(kind=kind, first=first, count=self._warm_ups, amount=amount)

            def over(first: int = first, last: int = last) -> bool:
                self._check()
                return len(self._done(first, last)) == last - first

            if not wait_until(over, READY_SECONDS):
                raise ContestantFailed(
                    f"{len(self._done(first, last))} of {last - first} jobs to warm up were run "
                    f"in {READY_SECONDS:g} s: {self.trees[0].said()}"
                )
            if len(np.unique(self._processes[self._count : last])) >= processes_:
                break
        time.sleep(SETTLE_SECONDS)

    def _wait(self, seconds: float) -> None:
        def over() -> bool:
            self._check()
            return len(self._done(0, self._count)) == self._count

        wait_until(over, seconds)

    def _limit(self) -> float:
        if self._workload.method == "fleet":
            return self._workload.limit_seconds
        return min(self._workload.limit_seconds, self._bench.profile.limit_seconds)

    def _check(self) -> None:
        for tree in self.trees:
            tree.check()

    def _done(self, first: int, last: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        times = self._times[first:last]
        return times[times > 0]


def _cpu_seconds(trees: list[Tree]) -> CpuTimes:
    return {process: seconds for tree in trees for process, seconds in tree.cpu_seconds().items()}


def difference(before: CpuTimes, after: CpuTimes) -> float:
    """What the processes that live afterwards have spent; what has ended is not counted."""
    return sum(seconds - before.get(process, 0.0) for process, seconds in after.items())
