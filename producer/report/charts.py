"""The charts of the reports, in one style: readable in print and without colours.

Colours are Okabe and Ito's (*Color Universal Design*, 2008), which colour-blind people tell apart;
each series has a dash and a marker, or a pattern, of its own besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from producer.report.page import text

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x")
GREY: Final = "#808080"
HEIGHT: Final = 360
ROW: Final = 38  # of a chart with one row for each thing
SHORTEST: Final = 1e-3  # s; the server's clock, which waits are counted by, has no finer step
LONGEST_NAME: Final = 24
QUANTILES: Final = 200

Series = Sequence[tuple[str, Sequence[float], Sequence[float]]]


def name_of(value: object) -> str:
    """A name as a chart has room for it."""
    whole = str(value)
    return text(whole if len(whole) <= LONGEST_NAME else whole[: LONGEST_NAME - 1] + "…")


def figure(x: str, y: str, height: int = HEIGHT, **layout: Any) -> go.Figure:
    """An empty chart; ``x`` and ``y`` name the axes with their units."""
    made = go.Figure()
    made.update_layout(
        template="none",
        height=height,
        margin={"l": 70, "r": 24, "t": 44, "b": 56},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        xaxis={"title": {"text": text(x), "font": {"size": 13}}, "automargin": True},
        yaxis={"title": {"text": text(y), "font": {"size": 13}}, "automargin": True},
        hovermode="closest",
    )
    made.update_layout(**layout)
    return made


def lines(series: Series, x: str, y: str, *, steps: bool = False, marks: bool = True) -> go.Figure:
    """Lines from zero up; with ``steps`` each value holds until the next."""
    made = figure(x, y)
    for number, (name, at, values) in enumerate(series):
        made.add_scatter(
            x=list(at),
            y=list(values),
            name=name_of(name),
            mode="lines+markers" if marks else "lines",
            line={**_line(number), "shape": "hv" if steps else "linear"},
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7},
            showlegend=True,
        )
    made.update_yaxes(rangemode="tozero")
    return made


def shares(samples: Mapping[str, Sequence[float]], x: str) -> go.Figure:
    """For each sample, the share of it that is at most so long; seconds, on a logarithmic axis."""
    made = figure(x, "share of the jobs, %")
    longest, shortest = SHORTEST, 1e9
    for number, (name, values) in enumerate(samples.items()):
        points = np.linspace(0, 1, QUANTILES + 1)
        cuts = np.maximum(np.quantile(np.asarray(values, dtype=float), points), SHORTEST)
        longest, shortest = max(longest, float(cuts[-1])), min(shortest, float(cuts[0]))
        made.add_scatter(
            x=cuts.tolist(),
            y=(points * 100).tolist(),
            name=name_of(name),
            mode="lines",
            line=_line(number),
            showlegend=True,
        )
    made.update_xaxes(title={"text": text(f"{x}, ms and s (logarithmic)")})
    seconds_axis(made.layout.xaxis, shortest, longest)
    made.update_yaxes(range=[0, 102])
    return made


def seconds_axis(axis: Any, shortest: float, longest: float) -> None:
    """A logarithmic axis of seconds whose ticks have readable units."""
    low, high = max(shortest, 1e-6) / 1.5, max(longest, shortest * 3, 1e-5) * 1.5
    every = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [
        factor * 10.0**power
        for power in range(-6, 6)
        for factor in every
        if low <= factor * 10.0**power <= high
    ]
    axis.update(
        type="log", range=[float(np.log10(low)), float(np.log10(high))], tickvals=ticks,
        ticktext=[_duration(one) for one in ticks],
    )  # fmt: skip


def _duration(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 0.999:
            return f"{seconds * factor:g} {unit}"
    return f"{seconds:g} s"


def speedups(rows: Sequence[tuple[str, float, float | None, float | None, str, bool]]) -> go.Figure:
    """A dot with its interval for each way: name, value, low, high, label, and whether it is noise.

    The axis is logarithmic; an empty dot is one that cannot be told from 1.
    """
    made = figure("speed-up (logarithmic)", "", height=120 + ROW * len(rows))
    for noise, symbol, legend in (
        (False, "circle", "more than noise"),
        (True, "circle-open", "within the noise (~)"),
    ):
        mine = [row for row in rows if row[5] == noise]
        if not mine:
            continue
        made.add_scatter(
            x=[row[1] for row in mine],
            y=[name_of(row[0]) for row in mine],
            mode="markers",
            name=legend,
            showlegend=True,
            marker={"symbol": symbol, "size": 11, "color": COLOURS[0], "line": {"width": 2}},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [(row[3] or row[1]) - row[1] for row in mine],
                "arrayminus": [row[1] - (row[2] or row[1]) for row in mine],
                "color": COLOURS[0],
                "thickness": 1.5,
            },
        )
    lows = [row[2] or row[1] for row in rows]
    highs = [row[3] or row[1] for row in rows]
    low, high = min(0.7, min(lows) / 1.3), max(1.5, max(highs) * 1.3)
    # The labels stand in a column of their own, where no interval reaches, on a telephone either.
    wide = high * (high / low) ** 0.28
    for row in rows:
        made.add_annotation(
            x=float(np.log10(wide)), y=name_of(row[0]), text=text(row[4]), showarrow=False,
            xanchor="right",
        )  # fmt: skip
    made.add_vline(x=1, line={"dash": "dash", "color": GREY, "width": 1.5})
    ticks = [
        factor * 10.0**power
        for power in range(-2, 5)
        for factor in ((1, 2, 5) if high / low < 1000 else (1,))
        if low <= factor * 10.0**power <= high
    ]
    made.update_xaxes(
        type="log", range=[float(np.log10(low)), float(np.log10(wide))], tickvals=ticks,
        ticktext=[f"{one:g}×" for one in ticks],
    )  # fmt: skip
    made.update_yaxes(
        categoryorder="array", categoryarray=[name_of(row[0]) for row in reversed(rows)],
        range=[-0.6, len(rows) - 0.4],
    )  # fmt: skip
    return made


def bars(
    names: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    x: str,
    *,
    stacked: bool = False,
) -> go.Figure:
    """Horizontal bars, one row for each name, with a pattern for each series."""
    made = figure(
        x, "", height=130 + ROW * len(names) * (1 if stacked else max(1, len(series) - 1))
    )
    shown = [name_of(name) for name in names]
    for number, (name, values) in enumerate(series):
        made.add_bar(
            x=list(values),
            y=shown,
            orientation="h",
            name=name_of(name),
            showlegend=True,
            marker={
                "color": COLOURS[number % len(COLOURS)],
                "pattern": {"shape": ("", "/", "x", "-")[number % 4], "solidity": 0.35},
            },
        )
    made.update_layout(barmode="stack" if stacked else "group", bargap=0.3)
    made.update_layout(legend={"traceorder": "normal"})
    made.update_yaxes(categoryorder="array", categoryarray=list(reversed(shown)))
    return made


def _line(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "dash": DASHES[number % len(DASHES)],
        "width": 2.2,
    }
