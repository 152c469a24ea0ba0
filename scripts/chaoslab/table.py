"""The table of rows, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from chaoslab.judge import Row
from chaoslab.soak import Report

HEAD: Final = (
    "fault", "jobs", "lost", "twice", "stale", "unsettled", "dup. runs", "recovery p50 / p99",
    "fenced",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """A row's figures, in the order of ``HEAD``."""
    if row.skipped:
        return (row.name, *[""] * (len(HEAD) - 1))
    recovery = ""
    if row.recovery_p50 is not None and row.recovery_p99 is not None:
        recovery = f"{row.recovery_p50:.2f} / {row.recovery_p99:.2f} s"
    return (
        row.name, f"{row.jobs:,}", _known(row.lost), _known(row.twice), _known(row.stale),
        _known(row.unsettled), str(row.duplicates), recovery, _known(row.fenced),
    )  # fmt: skip


def _known(figure: int | None) -> str:
    return "?" if figure is None else str(figure)


def show(console: Console, rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate((*HEAD, "")):
        table.add_column(name, justify="left" if column in (0, len(HEAD)) else "right")
    area = ""
    for row in rows:
        if row.area != area:
            area = row.area
            table.add_row(f"[bold]{area}[/bold]")
        if row.skipped:
            table.add_row(row.name, *[""] * (len(HEAD) - 1), "[yellow]left out[/yellow]")
            continue
        verdict = "[red]BROKEN[/red]" if row.broken else "[green]kept[/green]"
        if not row.keeps_promise and not row.broken:
            verdict = "measured"
        table.add_row(*cells(row), verdict)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", markup=False, highlight=False)
        if row.skipped:
            console.print(f"{row.name} was left out: {row.skipped}", markup=False, highlight=False)


def show_soak(console: Console, report: Report) -> None:
    console.print(
        f"{report.jobs:,} jobs in {report.seconds:.0f} s, seed {report.seed}: lost {report.lost}, "
        f"recorded more than once {report.twice}, stale {report.stale}, unsettled "
        f"{report.unsettled}, duplicate runs {report.duplicates}, fenced {report.fenced}",
        highlight=False,
    )
    told = ", ".join(f"{name} {count}" for name, count in report.faults.items())
    console.print(f"faults: {told}", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate(("", "mean", "slope an hour", "95 % interval")):
        table.add_column(name, justify="left" if column == 0 else "right")
    for name, (per_hour, low, high, mean) in report.slopes.items():
        table.add_row(name, f"{mean:,.1f}", f"{per_hour:+,.1f}", f"{low:+,.1f} to {high:+,.1f}")
    console.print(table)


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(("fault", "what is done", *HEAD[1:])) + " |"]
    lines.append("|" + "---|" * 2 + "---:|" * (len(HEAD) - 1))
    area = ""
    for row in rows:
        if row.area != area:
            area = row.area
            lines.append(f"| **{area}** |" + " |" * (len(HEAD)))
        name, *figures = cells(row)
        what = row.what + (f"; {row.note}" if row.note else "")
        if row.skipped:
            what += f" (left out: {row.skipped})"
        lines.append("| " + " | ".join((f"`{name}`", what, *figures)) + " |")
    return "\n".join(lines)
