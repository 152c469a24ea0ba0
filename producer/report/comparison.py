"""The report of ``twolane compare``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producer.cli import tables
from producer.environment import Environment
from producer.models import findings
from producer.models.rounds import Compared, Way
from producer.models.work import ONE
from producer.report import charts
from producer.report.page import Chart, Table, render
from twolane.commandline import counted


def page(compared: Sequence[Compared], seen: Sequence[str], machine: Environment, data: Any) -> str:
    parts: list[Chart | Table] = []
    for one in compared:
        parts += [*_speedups(one), _table(one)]
    parts += _cores(compared)
    title = "; ".join(findings.title(one) for one in compared)
    rounds = compared[0].rounds
    lead = (
        "twolane compare: the same work in every way, each measured in a fresh process, "
        f"{counted(rounds, 'interleaved round')}."
    )
    return render(title, lead, seen, parts, machine, data)


def _there(one: Compared) -> list[Way]:
    return [way for way in one.ways if not way.missing]


def _speedups(one: Compared) -> list[Chart]:
    rows = [
        (
            way.model, way.speedup.value, way.speedup.low, way.speedup.high,
            findings.times(way.speedup), way.speedup.is_noise,
        )
        for way in _there(one)
        if way.speedup is not None
    ]  # fmt: skip
    if not rows:
        return []
    note = (
        f"{one.count:,} × {one.job}, {one.lane} lane. Speed-ups are over one at a time; bars are "
        "their 95 % intervals, paired by round."
    )
    return [Chart(findings.title(one), charts.speedups(rows), note)]


def _table(one: Compared) -> Table:
    rows = [
        (
            way.model, f"{way.width:,}", tables.seconds(way.wall), tables.number(way.throughput),
            findings.times(way.speedup) if way.speedup else "1×", _interval(way),
            tables.number(way.cores),
            "–" if way.longest_block is None else tables.seconds(way.longest_block),
            f"{way.failed:,}",
        )
        for way in _there(one)
    ]  # fmt: skip
    lacking = [f"{way.model}: {way.missing}" for way in one.ways if way.missing]
    columns = (
        "way", "at once", "wall", "jobs/s", "speed-up", "95 % interval", "cores", "longest block",
        "failed",
    )  # fmt: skip
    note = "Not measured: " + "; ".join(lacking) + "." if lacking else ""
    base = one.way(ONE)
    what = f", {tables.seconds(base.wall)} one at a time" if base else ""
    return Table(f"{one.count:,} × {one.job}{what}", columns, rows, note)


def _interval(way: Way) -> str:
    if way.speedup is None or way.speedup.low is None or way.speedup.high is None:
        return "–"
    return f"{tables.number(way.speedup.low)}–{tables.number(way.speedup.high)}"


def _cores(compared: Sequence[Compared]) -> list[Chart]:
    names = [way.model for way in compared[0].ways if not way.missing]
    series = [(one.job, [_cores_of(one, name) for name in names]) for one in compared]
    if not names:
        return []
    most = max(
        (
            (value, name, job)
            for job, values in series
            for value, name in zip(values, names, strict=True)
        ),
        key=lambda found: found[0],
    )
    title = (
        f"The most cores were busy with {most[1]} and {most[2]}: {most[0]:.1f} of the "
        f"{compared[0].usable_cores} usable"
    )
    note = "CPU time of all processes, the broker's included, over the wall time."
    return [Chart(title, charts.bars(names, series, "cores busy"), note)]


def _cores_of(one: Compared, model: str) -> float:
    way = one.way(model)
    return way.cores if way else 0.0
