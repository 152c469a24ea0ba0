"""Puts the table of a run between the markers of a page."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaoslab import table
from chaoslab.judge import Row
from twolane.cores import usable_cores

BEGIN: Final = "<!-- the table: written by scripts/chaos quick --write-docs -->"
END: Final = "<!-- end of the table -->"


def write(page: Path, rows: Sequence[Row], seconds: float, seed: int) -> None:
    """Replace what is between the markers.

    Raises:
        ValueError: the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    page.write_text(f"{head}{BEGIN}\n\n{_about(rows, seconds, seed)}\n\n{END}{tail}", "utf-8")


def _about(rows: Sequence[Row], seconds: float, seed: int) -> str:
    today = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
    broken = [one for one in rows if one.broken]
    verdict = "every promise kept" if not broken else f"{len(broken)} rows broke a promise"
    about = (
        f"`scripts/chaos quick --seed {seed}`, {today}: {len(rows)} faults in {seconds:.0f} s on "
        f"{usable_cores()} cores, CPython {platform.python_version()}, load after it "
        f"{os.getloadavg()[0]:.1f}; {verdict}."
    )
    return f"{about}\n\n{table.markdown(rows)}"
