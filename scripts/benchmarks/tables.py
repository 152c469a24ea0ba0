"""Tables of a report, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import targets
from benchmarks.contestants import ALL as CONTESTANTS
from benchmarks.contestants import OURS
from benchmarks.report import Report
from benchmarks.summary import Row, Spread, rows, workloads_of
from benchmarks.workloads import MEASURES, Workload


class Grid(NamedTuple):
    """A table as text; the first column is words, the others are figures."""

    title: str
    head: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]


def number(value: float) -> str:
    """Three significant digits, and never fewer than the whole part has."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def of_spread(spread: Spread) -> str:
    if spread.samples == 1:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)}–{number(spread.most)})"


def workload_grid(report: Report, workload: Workload) -> Grid:
    measures = MEASURES[workload.method]
    head = ("contestant", *(one.unit for one in measures), "jobs", "samples", "twolane is")
    lines = [_line(row, len(measures)) for row in rows(report, workload)]
    return Grid(workload.title, head, lines)


def _line(row: Row, columns: int) -> tuple[str, ...]:
    title = CONTESTANTS[row.contestant].title
    if not row.spreads:
        return (title, "failed", *[""] * (columns - 1), "", "0", "")
    failed = f", {len(row.errors)} failed" if row.errors else ""
    better = f"{number(row.behind)} ×" if row.behind is not None else ""
    return (
        title,
        *(of_spread(one) for one in row.spreads),
        _jobs(row),
        f"{row.spreads[0].samples}{failed}",
        better,
    )


def _jobs(row: Row) -> str:
    """How many jobs a sample had; fewer of them completed where the limit came first."""
    jobs = max(one.jobs for one in row.samples)
    completed = min(one.completed for one in row.samples)
    if not jobs:
        return ""
    return f"{jobs:,}" if completed == jobs else f"{completed:,} of {jobs:,}"


def targets_grid(report: Report) -> Grid:
    lines = []
    for target in targets.ALL:
        value = target.value(report)
        limit = target.form.format(target.limit)
        lines.append(
            (
                target.measure,
                f"≥ {limit}" if target.at_least else f"≤ {limit}",
                "not measured" if value is None else target.form.format(value),
                "" if value is None else ("yes" if target.reached(value) else "**no**"),
            )
        )
    return Grid("Figures to reach", ("measure", "target", "measured", "reached"), lines)


def cost_grid(report: Report) -> Grid:
    """What a job costs: processor time of worker and server, and the server's commands."""
    lines = []
    for workload in workloads_of(report):
        if workload.method != "rate" or workload.kind != "noop":
            continue
        for row in rows(report, workload):
            if not row.samples:
                continue
            last = row.samples[-1]
            jobs = last.completed
            calls = sum(last.server_calls.values()) / jobs
            lines.append(
                (
                    f"{workload.name}: {CONTESTANTS[row.contestant].title}",
                    f"{last.cpu_seconds / jobs * 1e6:,.0f}",
                    f"{last.server_cpu_seconds / jobs * 1e6:,.0f}",
                    f"{last.cpu_seconds / last.seconds:.2f}",
                    f"{last.server_cpu_seconds / last.seconds:.2f}",
                    number(calls),
                )
            )
    head = ("run", "worker µs/job", "server µs/job", "worker cores", "server cores", "commands/job")
    return Grid("What a no-op job costs (last round)", head, lines)


def commands_grid(report: Report) -> Grid:
    """Where the server's time goes while this project's jobs run, from ``commandstats``."""
    lines = []
    for sample in report.samples:
        if sample.contestant != OURS or sample.round != report.rounds or not sample.server_micros:
            continue
        jobs = max(1, sample.completed)
        top = sorted(sample.server_micros.items(), key=lambda one: -one[1])[:5]
        text = ", ".join(
            f"{name} {sample.server_calls.get(name, 0) / jobs:.2f}×, {micros / jobs:.1f} µs"
            for name, micros in top
        )
        lines.append((sample.workload, text))
    head = ("workload", "commands by time: calls and time for each job")
    return Grid("twolane on the server (last round)", head, lines)


def markdown(grid: Grid, *, words: int = 1) -> str:
    """A table in GitHub's Markdown; columns from the ``words``-th on are aligned right."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = ["---" if column < words else "---:" for column in range(len(grid.head))]
    return "\n".join([line(grid.head), line(rule), *map(line, grid.lines)])


def show(console: Console, grid: Grid) -> None:
    table = Table(title=grid.title, title_justify="left", title_style="bold")
    for column, name in enumerate(grid.head):
        table.add_column(name, justify="left" if column == 0 else "right", overflow="fold")
    for line in grid.lines:
        table.add_row(*(cell.replace("**", "") for cell in line))
    console.print(table)
    console.print()


def show_all(console: Console, report: Report) -> None:
    for workload in workloads_of(report):
        show(console, workload_grid(report, workload))
    if (costs := cost_grid(report)).lines:
        show(console, costs)
    show(console, targets_grid(report))
    machine = report.machine
    console.print(
        f"{machine.processor}, {machine.cores} usable cores, {machine.memory_gb:.0f} GB, "
        f"{machine.kernel}; Python {machine.python}, Valkey {machine.valkey}; commit "
        f"{report.commit}; load before the run {machine.load_before:.1f}; "
        f"{report.rounds} rounds in {report.seconds / 60:.0f} min",
        highlight=False,
    )
    for sample in report.samples:
        if sample.error:
            last = sample.error.strip().splitlines()[-1:]
            console.print(
                f"failed: {sample.workload}, {sample.contestant}, round {sample.round}: "
                f"{last[0] if last else ''}",
                highlight=False,
                markup=False,
            )
