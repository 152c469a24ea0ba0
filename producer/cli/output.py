"""What a laboratory command leaves: a table, JSON or CSV on standard output, and a report."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar

import click

from twolane.commandline import json_option, option, plain, say
from twolane.errors import TwolaneError, UsageError

C = TypeVar("C", bound=Callable[..., Any])
# How often a log or a pipe is told how far a measurement is.
SAY_EVERY_SECONDS: Final = 5.0


def output_options(command: C) -> C:
    for add in (
        report_option,
        option("--csv", "as_csv", is_flag=True, help="Print the table as CSV."),
        json_option,
    ):
        command = add(command)
    return command


def report_option(command: C) -> C:
    return option(
        "--report", type=click.Path(path_type=Path, dir_okay=False), default=None, metavar="FILE",
        help="Write a report: one HTML file with charts, tables and the raw data.",
    )(command)  # fmt: skip


def check_place(report: Path | None, as_json: bool = False, as_csv: bool = False) -> None:
    """Find out before the work whether its results have a place.

    Raises:
        UsageError: both --json and --csv are asked for.
        TwolaneError: the report cannot be written.
    """
    import os

    if as_json and as_csv:
        raise UsageError("give --json or --csv, not both")
    if report is None:
        return
    place = report if report.exists() else report.parent
    if not place.exists():
        raise TwolaneError(f"cannot save the report in {report}: there is no folder {place}")
    if not os.access(place, os.W_OK):
        raise TwolaneError(f"cannot save the report in {report}: {place} is not writable for you")


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if cell is None else cell_text(cell) for cell in row])


def cell_text(value: Any) -> Any:
    from producer.cli.runs import FORMULA

    if isinstance(value, str) and value[:1] in FORMULA:
        return "'" + plain(value)
    return plain(value) if isinstance(value, str) else value


def write_report(path: Path, html: str) -> None:
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise TwolaneError(f"cannot save the report in {path}: {error.strerror}") from None
    say(f"report saved in {path}")


class Progress:
    """Says on standard error how far a measurement is.

    A terminal has one line for it, and every other reader gets a line now and then.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._has_line = sys.stderr.isatty()
        self._clock = clock
        self._said = clock()

    def __call__(self, done: int, of: int, what: str) -> None:
        text = f"{done}/{of} {plain(what)}" if what else ""
        if self._has_line:
            with contextlib.suppress(OSError):
                click.echo(f"\r\033[K{text[:100]}", nl=False, err=True)
        elif text and self._clock() - self._said >= SAY_EVERY_SECONDS:
            self._said = self._clock()
            say(text)
