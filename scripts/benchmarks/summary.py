"""The arithmetic: medians, spreads and ratios of samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.contestants import OURS
from benchmarks.report import Report, Sample
from benchmarks.workloads import ALL, MEASURES, Measure, Workload


class Spread(NamedTuple):
    """Of some samples of one value."""

    median: float
    least: float
    most: float
    samples: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))


class Row(NamedTuple):
    """A contestant's line in a table: a spread for each measure, its ratio to this project.

    ``behind`` is how many times better this project is; below 1 where it is worse.
    """

    contestant: str
    spreads: tuple[Spread, ...]
    behind: float | None
    samples: tuple[Sample, ...]
    errors: tuple[str, ...]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values: always one that was measured."""
    rank = max(1, math.ceil(percent / 100 * len(ordered)))
    return ordered[rank - 1]


def good(report: Report, workload: str, contestant: str) -> tuple[Sample, ...]:
    return tuple(
        one
        for one in report.samples
        if (one.workload, one.contestant) == (workload, contestant) and not one.error
    )


def spread(report: Report, workload: str, contestant: str, key: str) -> Spread | None:
    values = [one.values[key] for one in good(report, workload, contestant)]
    return Spread.of(values) if values else None


def behind(ours: float, theirs: float, measure: Measure) -> float:
    """How many times better ours is than theirs."""
    better, worse = (ours, theirs) if measure.more_is_better else (theirs, ours)
    return better / worse if worse else math.inf


def workloads_of(report: Report) -> list[Workload]:
    """In the order of the benchmark, whatever the order of the samples."""
    found = {one.workload for one in report.samples}
    return [one for one in ALL.values() if one.name in found]


def rows(report: Report, workload: Workload) -> list[Row]:
    """One for each contestant, the best first, those without a figure last."""
    first, *_ = measures = MEASURES[workload.method]
    ours = spread(report, workload.name, OURS, first.key)
    made: list[Row] = []
    names = dict.fromkeys(one.contestant for one in report.samples if one.workload == workload.name)
    for name in names:
        samples = good(report, workload.name, name)
        spreads = tuple(
            Spread.of([one.values[measure.key] for one in samples])
            for measure in measures
            if samples
        )
        ratio = None
        if ours is not None and spreads and name != OURS:
            ratio = behind(ours.median, spreads[0].median, first)
        errors = tuple(
            one.error
            for one in report.samples
            if (one.workload, one.contestant) == (workload.name, name) and one.error
        )
        made.append(Row(name, spreads, ratio, samples, errors))

    def order(row: Row) -> tuple[bool, float]:
        if not row.spreads:
            return True, 0.0
        return False, -row.spreads[0].median if first.more_is_better else row.spreads[0].median

    return sorted(made, key=order)
