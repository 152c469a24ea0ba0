"""What is measured, with whom, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.contestants import ASYNC, DROP_IN, OURS, POOLS, QUEUES, RAW, Contestant
from benchmarks.plan import Kind

Method = Literal["rate", "enqueue", "latency", "fleet", "idle"]


@dataclass(frozen=True)
class Measure:
    """A column: its name in the data, how it is written, and which way is better."""

    key: str
    unit: str
    more_is_better: bool


MEASURES: Final[dict[Method, tuple[Measure, ...]]] = {
    "rate": (Measure("rate", "jobs/s", True),),
    "enqueue": (Measure("rate", "jobs/s", True),),
    "latency": (Measure("p50", "ms p50", False), Measure("p99", "ms p99", False)),
    "fleet": (Measure("seconds", "s", False),),
    "idle": (
        Measure("cpu_percent", "% of a core", False),
        Measure("rss_mb", "MB RSS", False),
        Measure("pss_mb", "MB PSS", False),
    ),
}


@dataclass(frozen=True)
class Workload:
    """``jobs`` is the number for everybody; where it is 0, the contestant's pace decides.

    ``slots`` 0 stands for as many as there are usable cores. ``amount`` is seconds for jobs that
    wait and milliseconds for jobs that compute.
    """

    name: str
    title: str
    method: Method
    contestants: tuple[str, ...]
    kind: Kind = "noop"
    slots: int = 32
    workers: int = 1
    jobs: int = 0
    amount: float = 0.0
    limit_seconds: float = 20.0

    @property
    def computes(self) -> bool:
        return self.kind == "compute"


def _cpu(ms: int, jobs: int) -> Workload:
    title = f"CPU jobs of {ms} ms" if ms else "no-op CPU jobs"
    return Workload(
        f"cpu-{ms}", f"{title}, one process a core", "rate", POOLS,
        kind="compute", slots=0, jobs=jobs, amount=ms, limit_seconds=30,
    )  # fmt: skip


def _fleet(workers: int) -> Workload:
    return Workload(
        f"fleet-{workers}", f"600 jobs of 4 s, {workers} workers of 10 slots", "fleet",
        (OURS, DROP_IN, "arq", "arq-tuned"), kind="wait", slots=10, workers=workers, jobs=600,
        amount=4.0, limit_seconds=60,
    )  # fmt: skip


def _processes(workers: int) -> Workload:
    return Workload(
        f"processes-{workers}", f"no-op IO jobs, {workers} worker processes, concurrency 32 each",
        "rate", (*ASYNC, "celery-threads", "dramatiq", "rq"), workers=workers,
    )  # fmt: skip


_enqueuers = tuple(one for one in QUEUES if one not in ("arq-tuned", "celery-prefork"))
_waiters = tuple(one for one in QUEUES if one not in ("rq", "celery-prefork"))

ALL: Final = {
    one.name: one
    for one in (
        Workload("enqueue", "bulk enqueue of 20,000 jobs", "enqueue", _enqueuers, jobs=20_000),
        Workload("noop-32", "no-op IO jobs, one worker process, concurrency 32", "rate", QUEUES),
        Workload(
            "noop-500", "no-op IO jobs, one worker process, concurrency 500", "rate", ASYNC,
            slots=500,
        ),
        _processes(2),
        _processes(4),
        Workload(
            "sleep-1000", "IO jobs of 1 s, one worker process, concurrency 1,000", "rate",
            _waiters, kind="wait", slots=1_000, jobs=5_000, amount=1.0, limit_seconds=30,
        ),
        _cpu(0, 0),
        _cpu(1, 8_000),
        _cpu(10, 1_600),
        _cpu(100, 160),
        Workload(
            "latency", "pickup on an idle queue, 50 jobs/s, from the intended send time",
            "latency", (*QUEUES, RAW),
        ),
        _fleet(10),
        _fleet(20),
        _fleet(30),
        Workload("idle", "an idle IO worker, concurrency 32", "idle", QUEUES),
        Workload(
            "idle-cpu", "an idle worker for CPU jobs, one process a core", "idle",
            (OURS, "celery-prefork", "taskiq"), kind="compute", slots=0,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """How much of it: ``only`` names workloads, and contestants where they are not all."""

    name: str
    rounds: int
    seconds: float  # that a run of no-op jobs should take, by the contestant's pace
    latency_seconds: float
    idle_seconds: float
    limit_seconds: float
    share: float  # of the jobs of a workload that says how many
    only: dict[str, tuple[str, ...]]


FULL: Final = Profile("full", 3, 3.0, 6.0, 6.0, 20.0, 1.0, {})
QUICK: Final = Profile(
    "quick", 2, 1.5, 5.0, 10.0, 8.0, 0.5,
    {
        "enqueue": (OURS, "arq", "saq", "streaq", "taskiq"),
        "noop-32": (OURS, DROP_IN, "arq", "arq-tuned", "saq", "streaq", "taskiq"),
        "cpu-0": (OURS, "bare"),
        "cpu-10": (OURS, "bare"),
        "latency": (OURS, RAW),
    },
)  # fmt: skip
PROFILES: Final = {one.name: one for one in (FULL, QUICK)}


def jobs_of(workload: Workload, contestant: Contestant, profile: Profile) -> int:
    """How many jobs a run has: round hundreds, and enough for every slot to have two."""
    if workload.jobs:
        fixed = workload.method in ("enqueue", "fleet")  # their titles say how many
        return workload.jobs if fixed else round(workload.jobs * profile.share)
    wanted = contestant.pace * profile.seconds * workload.workers
    return max(500, 2 * workload.slots * workload.workers, round(wanted / 100) * 100)
