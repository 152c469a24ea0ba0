"""Tables and numbers as people read them, on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import IO

from rich.console import Console

from producer.cli.fitting import Fitted
from producer.comparison import Row
from twolane.commandline import plain as plain

PLAIN_WIDTH = 1_000_000  # columns of a file or a pipe: no row of ours is folded there


def console(stream: IO[str] | None = None) -> Console:
    """A console on ``stream`` (standard output by default), wide where nobody has a window."""
    file = stream or sys.stdout
    # Nothing in a text is taken for markup: much of it comes from jobs and is untrusted.
    return Console(
        file=file, width=None if file.isatty() else PLAIN_WIDTH,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: int = 99,
    until: int = 99,
    keys: int = 1,
) -> Fitted:
    """A table whose columns from number ``right`` up to ``until`` hold numbers.

    Cells are plain text. The first ``keys`` columns say what a row is of: a narrow window has them
    again with each part of the table.
    """
    return Fitted(columns, [[plain(cell) for cell in row] for row in rows], right, until, keys)


def seconds(value: float) -> str:
    """Three figures and a unit: 350 µs, 51.2 ms, 3.50 s, 2 min 5 s."""
    if value >= 100:
        return f"{int(value // 60)} min {int(value % 60)} s"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or unit == "µs":
            scaled = value * factor
            if scaled == 0:
                return "0"
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"
    raise AssertionError("unreachable")


def size(value: int) -> str:
    scaled = float(value)
    for unit in ("B", "KiB", "MiB"):
        if scaled < 1024:
            return f"{scaled:.0f} {unit}"
        scaled /= 1024
    return f"{scaled:.1f} GiB"


def number(value: float) -> str:
    """Three figures at the least, thousands set apart: 0, 0.52, 51.9, 1,042."""
    return "0" if not value else f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def percent(value: float) -> str:
    return f"{number(value)}%"


def ago(ms: int) -> str:
    return seconds(max(0.0, time.time() - ms / 1000)) + " ago"


def comparison(rows: Sequence[Row]) -> Fitted:
    """The comparison table of a run."""
    columns = (
        "lane", "job", "jobs", "failed", "retried", "wall", "jobs/s", "wait p50/p95/p99",
        "run p50/p95/p99", "CPU time", "cores", "at once", "speed-up",
    )  # fmt: skip
    cells = [
        (
            row.lane, row.job or "all", f"{row.jobs:,}", f"{row.failed + row.cancelled:,}",
            f"{row.retried:,}", seconds(row.wall), number(row.throughput), quantiles(row, "wait"),
            quantiles(row, "run"), seconds(row.cpu_seconds), number(row.cores),
            number(row.concurrency), f"{number(row.speedup)}×",
        )
        for row in rows
    ]  # fmt: skip
    return table(columns, cells, right=2, keys=2)


def quantiles(row: Row, which: str) -> str:
    values = row.wait if which == "wait" else row.run
    return " / ".join(seconds(one) for one in (values.p50, values.p95, values.p99))


LEGEND = (
    "wall: first enqueued to last finished · cores: CPU time over the span of the runs · "
    "at once: mean number of jobs running\n"
    "speed-up: sum of the run times over wall, that is, over running them one at a time"
)
