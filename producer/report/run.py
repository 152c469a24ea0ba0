"""The report of a run: what its jobs did, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from producer.cli import tables
from producer.collect import Collected
from producer.comparison import Quantiles, Row, compare
from producer.environment import Environment
from producer.report import charts
from producer.report.page import Chart, Part, Remark, Table, render
from producer.sweep import end_of
from twolane.commandline import counted
from twolane.outcome import Outcome

BINS = 40
FAILED_SHOWN = 20


def page(
    collected: Collected,
    seen: Sequence[str],
    machine: Environment | None,
    data: Any,
    failures: Sequence[tuple[str, int, str]] = (),
) -> str:
    """``data`` is the run as JSON has it; the jobs are added to it, one row each."""
    outcomes = collected.outcomes
    run = collected.run
    rows = compare(outcomes, run.created_ms) if outcomes else []
    lead = f"Run {run.name}: {len(outcomes):,} of {counted(run.total, 'job')}, kind {run.kind}."
    ran = [one for one in outcomes if not one.cancelled]
    parts: list[Part] = []
    if ran:
        parts += [*_throughput(ran), _waits(ran), _runs(ran), *did(rows)]
    if rows:
        parts.append(_table(rows))
    if failures:
        shown = [(count, kind, example) for kind, count, example in failures[:FAILED_SHOWN]]
        columns = ("jobs", "error", "for example")
        parts.append(Table("What failed", columns, shown, is_text=True))
    return render(_title(rows, run.name), lead, seen, parts, machine, {**data, "jobs": jobs(ran)})


def jobs(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """Every job in columns, which take a third of what rows would."""
    return {
        "id": [one.id for one in outcomes],
        "job": [one.function for one in outcomes],
        "lane": [one.lane for one in outcomes],
        "success": [one.success for one in outcomes],
        "started_ms": [one.started_ms for one in outcomes],
        "wait_seconds": [one.wait_ms / 1000 for one in outcomes],
        "run_seconds": [one.run_seconds for one in outcomes],
        "cpu_seconds": [one.cpu_seconds for one in outcomes],
        "hold_seconds": [one.hold_seconds for one in outcomes],
    }


def _title(rows: Sequence[Row], name: str) -> str:
    lanes = {row.lane: row for row in rows}  # the last one of a lane is of all its jobs
    said = [
        f"the {row.lane.upper()} lane did {tables.number(row.throughput)} jobs/s "
        f"on {tables.number(row.cores)} cores"
        for row in lanes.values()
    ]
    return f"{name}: {', '.join(said)}" if said else f"{name}: nothing has run"


def _by(outcomes: Sequence[Outcome], what: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        found[getattr(one, what) or "io"].append(one)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "io", item[0])))


def _throughput(outcomes: Sequence[Outcome]) -> list[Chart]:
    """One chart a lane: their rates are too far apart for one axis."""
    begin = min(one.started_ms for one in outcomes) / 1000
    made = []
    for lane, found in _by(outcomes, "lane").items():
        at, rates = rates_of([end_of(one) / 1000 - begin for one in found])
        best = max(rates)
        when = at[rates.index(best)]
        chart = charts.lines(
            [(f"{lane} lane", at, rates)], "seconds since the first start", "throughput, jobs/s",
            steps=True, marks=False,
        )  # fmt: skip
        chart.update_layout(showlegend=False, height=270, margin={"t": 12})
        width = at[1] - at[0]
        title = (
            f"{lane.upper()} lane: at its best {tables.number(best)} jobs/s, "
            f"{tables.number(when)} s after the first start"
        )
        made.append(Chart(title, chart, f"Jobs that ended in each {tables.seconds(width)}."))
    return made


def rates_of(ends: Sequence[float]) -> tuple[list[float], list[float]]:
    """Jobs a second over time, from when each ended: a rate for each of some 40 intervals."""
    last = max(max(ends), 1e-3)
    width = last / BINS
    counts = [0] * BINS
    for end in ends:
        counts[min(BINS - 1, max(0, int(end / width)))] += 1
    at = [number * width for number in range(BINS + 1)]
    return at, [*(count / width for count in counts), 0.0]


def _waits(outcomes: Sequence[Outcome]) -> Chart | Remark:
    samples = {
        f"{lane} lane": [one.wait_ms / 1000 for one in found]
        for lane, found in _by(outcomes, "lane").items()
    }
    note = "From when a job was due to its claim."
    if is_nothing(samples):
        note += " The server's clock, which waits are counted by, has steps of 1 ms."
        return Remark("No job waited for longer than 1 ms", note)
    said = ", ".join(
        f"{_at_least_a_step(Quantiles.of(values).p50)} on the {name}"
        for name, values in samples.items()
    )
    note += " Waits under 1 ms are drawn at 1 ms."
    return Chart(f"Half of the jobs waited less than {said}", charts.shares(samples, "wait"), note)


def is_nothing(samples: Mapping[str, Sequence[float]]) -> bool:
    """Whether all that a chart of these times would have is a line at its edge."""
    return all(max(values) <= charts.SHORTEST for values in samples.values())


def _at_least_a_step(wait: float) -> str:
    return tables.seconds(max(wait, charts.SHORTEST))


def _runs(outcomes: Sequence[Outcome]) -> Chart | Remark:
    found = _by(outcomes, "function")
    biggest = sorted(found, key=lambda name: -len(found[name]))[: len(charts.COLOURS)]
    samples = {name: [one.run_seconds for one in found[name]] for name in sorted(biggest)}
    medians = sorted((Quantiles.of(values).p50, name) for name, values in samples.items())
    (short, first), (long, last) = medians[0], medians[-1]
    if len(medians) > 1:
        title = (
            f"Median run times go from {tables.seconds(short)} ({first}) to "
            f"{tables.seconds(long)} ({last})"
        )
    else:
        title = f"Half of the {first} jobs ran for less than {tables.seconds(short)}"
    left = len(found) - len(biggest)
    if is_nothing(samples):
        return Remark(title, "No job ran for longer than 1 ms, where a chart of run times begins.")
    note = "Run times under 1 ms are drawn at 1 ms."
    if left:
        note += f" {left} jobs with fewer runs are left out."
    return Chart(title, charts.shares(samples, "run time"), note)


def did(rows: Sequence[Row]) -> list[Chart]:
    """What each job did with its run time."""
    jobs_alone = [row for row in rows if row.job and row.run_total > 0]
    if not jobs_alone:
        return []
    computed = {row.job: min(1.0, row.cpu_seconds / row.run_total) for row in jobs_alone}
    most, least = max(computed, key=lambda j: computed[j]), min(computed, key=lambda j: computed[j])
    if most == least:
        title = f"{most} computed for {computed[most]:.0%} of its run time, and waited for the rest"
    else:
        title = (
            f"{least} waited for {1 - computed[least]:.0%} of its run time, "
            f"{most} computed for {computed[most]:.0%}"
        )
    names = [f"{row.job} ({row.lane})" for row in jobs_alone]
    series = [
        ("computed", [100 * computed[row.job] for row in jobs_alone]),
        ("waited", [100 * (1 - computed[row.job]) for row in jobs_alone]),
    ]
    made = charts.bars(names, series, "share of the run time, %", stacked=True)
    made.update_xaxes(range=[0, 100])
    return [Chart(title, made, "CPU time over run time; the rest was spent waiting.")]


def _table(rows: Sequence[Row]) -> Table:
    columns = (
        "job", "lane", "jobs", "failed", "jobs/s", "wait p50 / p95", "run p50 / p95", "CPU time",
        "cores", "speed-up",
    )  # fmt: skip
    cells = [
        (
            row.job or "all", row.lane, f"{row.jobs:,}", f"{row.failed + row.cancelled:,}",
            tables.number(row.throughput), _pair(row.wait), _pair(row.run),
            tables.seconds(row.cpu_seconds), tables.number(row.cores),
            f"{tables.number(row.speedup)}×",
        )
        for row in rows
    ]  # fmt: skip
    note = (
        "jobs/s: from the first enqueued to the last finished · cores: CPU time over the span of "
        "the runs · speed-up: over running them one at a time"
    )
    return Table("Each job", columns, cells, note)


def _pair(quantiles: Quantiles) -> str:
    return f"{tables.seconds(quantiles.p50)} / {tables.seconds(quantiles.p95)}"
