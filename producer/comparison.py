"""What a run's jobs did, for each lane and job: the table that compares them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from twolane.outcome import Outcome


class Quantiles(msgspec.Struct):
    """Seconds at the 50th, 95th and 99th percentile, interpolated between neighbours."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(cuts[49], cuts[94], cuts[98])


class Row(msgspec.Struct):
    """One job's figures, or one lane's (``job`` is empty then). Times are seconds.

    ``wall`` is from the first enqueued to the last finished. ``throughput`` is jobs a second of
    that. ``concurrency`` is the mean number of jobs that ran at once between the first start and
    the last finish: the run times' sum over that span (Little's law). ``speedup`` is over running
    the same jobs one at a time: the run times' sum over ``wall``. For jobs that compute, a run
    time grows when they share a core, so ``cores`` (CPU seconds over the same span) is the surer
    figure there.
    """

    lane: str
    job: str
    jobs: int
    failed: int
    cancelled: int
    wall: float
    throughput: float
    wait: Quantiles
    run: Quantiles
    run_total: float
    cpu_seconds: float
    concurrency: float
    speedup: float
    cores: float
    longest_hold: float
    peak_memory_bytes: int
    retried: int


def compare(outcomes: Iterable[Outcome], created_ms: int | None = None) -> list[Row]:
    """The rows of a run: each lane's jobs by name, then, where there are several, the lane.

    ``created_ms`` is when the run was made: a job that was tried again knows only when its last try
    was due, so that is taken for when it was enqueued.
    """
    by_lane: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for one in outcomes:
        by_lane[one.lane or "io"][one.function].append(one)
    rows: list[Row] = []
    for lane in sorted(by_lane, key=lambda name: (name != "io", name)):
        jobs = by_lane[lane]
        rows += [_row(lane, job, jobs[job], created_ms) for job in sorted(jobs)]
        if len(jobs) > 1:
            whole = [one for found in jobs.values() for one in found]
            rows.append(_row(lane, "", whole, created_ms))
    return rows


def _row(lane: str, job: str, found: list[Outcome], created_ms: int | None) -> Row:
    # A started job's end is known to a fraction of a millisecond, its start to the millisecond.
    ends = [one.started_ms / 1000 + one.run_seconds for one in found]
    first_start = min(one.started_ms for one in found) / 1000
    enqueued = min(_enqueued_ms(one, created_ms) for one in found) / 1000
    # A millisecond at the least: the clock's step, so that no figure divides by nothing.
    wall = max(max(ends) - enqueued, 0.001)
    span = max(max(ends) - first_start, 0.001)
    run_total = sum(one.run_seconds for one in found)
    cpu_seconds = sum(one.cpu_seconds for one in found)
    return Row(
        lane=lane,
        job=job,
        jobs=len(found),
        failed=sum(not one.success and not one.cancelled for one in found),
        cancelled=sum(one.cancelled for one in found),
        wall=wall,
        throughput=len(found) / wall,
        wait=Quantiles.of([one.wait_ms / 1000 for one in found]),
        run=Quantiles.of([one.run_seconds for one in found]),
        run_total=run_total,
        cpu_seconds=cpu_seconds,
        concurrency=run_total / span,
        speedup=run_total / wall,
        cores=cpu_seconds / span,
        longest_hold=max(one.hold_seconds for one in found),
        peak_memory_bytes=max(one.memory_bytes for one in found),
        retried=sum((one.try_ or 1) > 1 for one in found),
    )


def _enqueued_ms(one: Outcome, created_ms: int | None) -> float:
    due = one.started_ms - one.wait_ms
    tried_again = (one.try_ or 1) > 1
    return min(due, created_ms) if tried_again and created_ms is not None else due
