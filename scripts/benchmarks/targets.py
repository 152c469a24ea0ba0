"""The figures to reach, and whether a run reached them; only the limits are typed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contestants import ALL as CONTESTANTS
from benchmarks.contestants import DROP_IN, OURS
from benchmarks.report import Report
from benchmarks.summary import spread
from benchmarks.workloads import ALL as WORKLOADS

Value = Callable[[Report], float | None]


@dataclass(frozen=True)
class Target:
    """``value`` gives None where the run did not measure it; ``form`` writes a value."""

    measure: str
    limit: float
    at_least: bool
    form: str
    value: Value

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def median(workload: str, contestant: str, key: str = "rate") -> Value:
    def value(report: Report) -> float | None:
        found = spread(report, workload, contestant, key)
        return found.median if found else None

    return value


def ratio(workload: str, other: str, key: str = "rate") -> Value:
    """This project's median divided by another contestant's."""

    def value(report: Report) -> float | None:
        ours, theirs = median(workload, OURS, key)(report), median(workload, other, key)(report)
        return None if ours is None or theirs is None else ours / theirs

    return value


def best_peer(report: Report, workload: str = "noop-32") -> tuple[str, float] | None:
    found = [
        (name, rate)
        for name in CONTESTANTS
        if name not in (OURS, DROP_IN) and (rate := median(workload, name)(report)) is not None
    ]
    return max(found, key=lambda one: one[1], default=None)


def over_best_peer(report: Report) -> float | None:
    ours, best = median("noop-32", OURS)(report), best_peer(report)
    return None if ours is None or best is None else ours / best[1]


def of_ideal(workload: str) -> Value:
    """The time that a fleet took, divided by that of slots that are never empty."""
    one = WORKLOADS[workload]
    waves = -(-one.jobs // (one.workers * one.slots))

    def value(report: Report) -> float | None:
        seconds = median(workload, OURS, "seconds")(report)
        return None if seconds is None else seconds / (waves * one.amount)

    return value


RATE, TIMES, SHARE, MS = "{:,.0f} jobs/s", "{:.1f} ×", "{:.3f}", "{:.2f} ms"
ALL: tuple[Target, ...] = (
    Target(
        "no-op IO jobs, one worker process, concurrency 32", 20_000, True, RATE,
        median("noop-32", OURS),
    ),
    Target("… over the best peer", 10, True, TIMES, over_best_peer),
    Target("… over arq with its defaults", 40, True, TIMES, ratio("noop-32", "arq")),
    Target("… over arq tuned", 12, True, TIMES, ratio("noop-32", "arq-tuned")),
    Target(
        "no-op IO jobs, one worker process, concurrency 500", 30_000, True, RATE,
        median("noop-500", OURS),
    ),
    Target("bulk enqueue", 100_000, True, RATE, median("enqueue", OURS)),
    Target("no-op CPU jobs through the queue", 10_000, True, RATE, median("cpu-0", OURS)),
    Target("CPU jobs of 10 ms, of bare cores", 0.95, True, SHARE, ratio("cpu-10", "bare")),
    Target("CPU jobs of 100 ms, of bare cores", 0.98, True, SHARE, ratio("cpu-100", "bare")),
    Target("pickup on an idle queue, p50", 1, False, MS, median("latency", OURS, "p50")),
    Target("pickup on an idle queue, p99", 4, False, MS, median("latency", OURS, "p99")),
    *(
        Target(
            f"600 jobs of 4 s, {workers} workers of 10 slots, of the ideal", 1.10, False,
            "{:.2f} ×", of_ideal(f"fleet-{workers}"),
        )
        for workers in (10, 20, 30)
    ),
    Target(
        "idle worker, of a core", 0.5, False, "{:.2f} %", median("idle", OURS, "cpu_percent")
    ),
    Target("idle worker, memory (RSS)", 60, False, "{:.0f} MB", median("idle", OURS, "rss_mb")),
)  # fmt: skip
