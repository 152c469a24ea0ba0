"""A small plot for the terminal: throughput over time, one row of it for each lane."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from producer.sweep import end_of
from twolane.keys import LANES
from twolane.outcome import Outcome

WIDTH: Final = 72
HEIGHT: Final = 9
ASCII: Final = str.maketrans(dict.fromkeys("┌┐└┘├┤┬┴┼", "+") | {"─": "-", "│": "|"})


def ends_of(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """When each lane's jobs ended, in seconds after the run's first start."""
    ran = [one for one in outcomes if not one.cancelled]
    begin = min((one.started_ms for one in ran), default=0)
    found: dict[str, list[float]] = {lane: [] for lane in LANES}
    for one in ran:
        found.setdefault(one.lane or "io", []).append((end_of(one) - begin) / 1000)
    return found


def throughput(ends: Mapping[str, Sequence[float]], *, colour: bool, plain_text: bool) -> str:
    """Jobs a second over time for each lane, from when its jobs ended (s after the first start).

    Each lane has a plot of its own, as their rates are far apart. ``plain_text`` draws with ASCII.
    """
    import plotext

    from producer.report.run import rates_of

    made = []
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for lane, times in ends.items():
        if not times:
            continue
        at, rates = rates_of(times)
        plotext.clear_figure()
        plotext.plotsize(width, HEIGHT)
        plotext.theme("clear")
        plotext.title(f"{lane} lane, jobs/s over seconds")
        marker = "*" if plain_text else "braille"
        plotext.plot(at, rates, marker=marker, color="cyan" if lane == "io" else "orange")
        plotext.ylim(0, max(rates) * 1.05)
        plotext.yfrequency(3)
        plotext.xfrequency(6)
        text = plotext.build()
        text = text if colour else plotext.uncolorize(text)
        made.append(text.translate(ASCII) if plain_text else text)
    plotext.clear_figure()
    return "\n".join(one.rstrip("\n") for one in made)
