"""The report of ``twolane scale``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from producer import scaling
from producer.cli import tables
from producer.environment import Environment
from producer.report import charts
from producer.report.page import Chart, Table, render, text
from producer.scaling import AT_LIMIT, Line
from producer.sweep import Point
from producer.usl import Fit
from twolane.commandline import counted
from twolane.keys import Lane


def page(
    points: Sequence[Point],
    found: Fit | None,
    job: str,
    lane: Lane,
    seen: Sequence[str],
    conditions: Sequence[str],
    machine: Environment,
    data: Any,
) -> str:
    title = scaling.title(found, points, lane)
    rounds = counted(1 + max(point.round_ for point in points), "round")
    lead = f"twolane scale: {job}, {rounds} in shuffled order; {'; '.join(conditions)}."
    by_count = scaling.lines(points)
    parts: list[Chart | Table] = [
        _curve(points, found, title),
        _limits(points, lane, by_count),
        _runs(by_count),
        _steady(points),
        *_tables(by_count),
    ]
    return render(title, lead, seen, parts, machine, data)


def _curve(points: Sequence[Point], found: Fit | None, title: str) -> Chart:
    made = charts.figure("workers", "throughput, jobs/s", height=430)
    largest = max(point.workers for point in points)
    first = min(point.workers for point in points)
    note = "Each dot is one measurement."
    if found is not None:
        counts = np.linspace(first, largest, 80).tolist()
        band = found.band(counts)
        made.add_scatter(
            x=[*counts, *reversed(counts)],
            y=[one.low for one in band] + [one.high for one in reversed(band)],
            fill="toself", fillcolor="rgba(0,114,178,0.18)", line={"width": 0},
            name="95 % band of the fit", hoverinfo="skip", showlegend=True,
        )  # fmt: skip
        made.add_scatter(
            x=counts, y=[one.throughput for one in band], mode="lines", name="fit (USL)",
            line={"color": charts.COLOURS[0], "width": 2.5}, showlegend=True,
        )  # fmt: skip
        linear = [found.gamma.value * one for one in counts]
        top = max(point.throughput for point in points) * 1.15
        made.add_scatter(
            x=[n for n, x in zip(counts, linear, strict=True) if x <= top],
            y=[x for x in linear if x <= top],
            mode="lines", name="in proportion",
            line={"color": charts.GREY, "dash": "dot", "width": 1.8}, showlegend=True,
        )  # fmt: skip
        amdahl = found.amdahl
        made.add_scatter(
            x=counts,
            y=[amdahl.gamma * n / (1 + amdahl.alpha * (n - 1)) for n in counts],
            mode="lines",
            name="Amdahl's law (β = 0)",
            line={"color": charts.COLOURS[3], "dash": "dash", "width": 1.8},
            showlegend=True,
        )
        one = found.recommended
        made.add_vline(x=one.count, line={"dash": "dash", "color": charts.COLOURS[2], "width": 2})
        right = one.count > (first + largest) / 2
        made.add_annotation(
            x=one.count, y=0, text=text(f"recommended: {one.count} ({one.low}–{one.high})"),
            showarrow=False, xanchor="right" if right else "left", yanchor="bottom",
            xshift=-6 if right else 6, yshift=4,
        )  # fmt: skip
        note += (
            f" Fit: α = {found.alpha.value:.4f} ({found.alpha.low:.4f}–{found.alpha.high:.4f}), "
            f"β = {found.beta.value:.5f} ({found.beta.low:.5f}–{found.beta.high:.5f}), "
            f"γ = {found.gamma.value:,.4g} jobs/s; {found.verdict}. The dotted line is what every "
            "worker would do if none was in another's way. Were β really 0, Amdahl's "
            f"law would fit so much worse with a probability of {amdahl.p_value:.2g}."
        )
    made.add_scatter(
        x=[point.workers for point in points], y=[point.throughput for point in points],
        mode="markers", name="measured", showlegend=True,
        marker={"symbol": "diamond", "size": 9, "color": charts.COLOURS[1]},
    )  # fmt: skip
    made.update_yaxes(rangemode="tozero")
    counts_of = sorted({point.workers for point in points})
    made.update_xaxes(tickvals=counts_of, range=[0, largest + 0.5])
    made.update_layout(margin={"t": 70})
    return Chart(title, made, note)


def _limits(points: Sequence[Point], lane: Lane, by_count: Sequence[Line]) -> Chart:
    shares: dict[str, list[float]] = defaultdict(list)
    counts = [one.workers for one in by_count]
    for one in by_count:
        for limit in scaling.limits(points, lane, one.workers):
            shares[limit.name.partition(",")[0]].append(limit.share * 100)
        shares["slots with a job"].append(100 * one.busy_slots / max(one.slots, 1))
    series = [(name, counts, values) for name, values in shares.items()]
    made = charts.lines(series, "workers", "busy, % of what it has")
    made.add_hline(y=AT_LIMIT * 100, line={"dash": "dash", "color": charts.GREY, "width": 1})
    made.update_xaxes(tickvals=counts, range=[0, counts[-1] + 0.5])
    made.update_layout(margin={"t": 90}, height=420)
    nearest = scaling.limits(points, lane, counts[-1])[0]
    reached = nearest.share >= AT_LIMIT
    what = "was the limit" if reached else "was the nearest to its limit"
    title = (
        f"With {counts[-1]} workers {nearest.name.partition(',')[0]} {what}: "
        f"{nearest.share:.0%} busy"
    )
    note = f"Above the dashed line ({AT_LIMIT:.0%}) a resource counts as at its limit."
    return Chart(title, made, note)


def _runs(by_count: Sequence[Line]) -> Chart:
    counts = [one.workers for one in by_count]
    series = [
        ("p50", counts, [one.run_p50 * 1000 for one in by_count]),
        ("p95", counts, [one.run_p95 * 1000 for one in by_count]),
        ("p99", counts, [one.run_p99 * 1000 for one in by_count]),
    ]
    made = charts.lines(series, "workers", "run time, ms")
    made.update_xaxes(tickvals=counts, range=[0, counts[-1] + 0.5])
    first, last = by_count[0], by_count[-1]
    grown = last.run_p50 / max(first.run_p50, 1e-9)
    change = (
        "stays the same" if 0.95 < grown < 1.05 else f"changes to {grown:.2f} times what it was"
    )
    title = (
        f"From {first.workers} to {last.workers} workers the median run time {change} "
        f"({tables.seconds(first.run_p50)} to {tables.seconds(last.run_p50)})"
    )
    return Chart(title, made, "Medians over the rounds.")


def _steady(points: Sequence[Point]) -> Chart:
    by_count: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        by_count[point.workers].append(point)
    series = []
    swings = []
    for count in sorted(by_count):
        seconds = min(len(point.per_second) for point in by_count[count])
        values = [
            mean(point.per_second[number] for point in by_count[count]) for number in range(seconds)
        ]
        series.append((counted(count, "worker"), list(range(1, seconds + 1)), values))
        if mean(values):
            swings.append((max(values) - min(values)) / mean(values))
    title = f"Within a window the throughput swings by {max(swings, default=0):.0%} at the most"
    made = charts.lines(series, "second of the window", "throughput, jobs/s")
    made.update_xaxes(dtick=1)
    made.update_layout(margin={"t": 70})
    note = "Mean over the rounds. A trend would mean that the warm-up was too short."
    return Chart(title, made, note)


def _tables(by_count: Sequence[Line]) -> list[Table]:
    others = sorted(by_count[0].others)
    busy = [
        (
            one.workers, one.slots, tables.number(one.throughput),
            f"{tables.number(one.lowest)}–{tables.number(one.highest)}", f"{one.speedup:.2f}×",
            f"{one.efficiency:.2f}", f"{one.machine:.2f}", f"{one.broker:.2f}",
            *(f"{one.others[name]:.2f}" for name in others),
        )
        for one in by_count
    ]  # fmt: skip
    columns = (
        "workers", "slots", "jobs/s", "spread", "speed-up", "efficiency", "machine", "Valkey",
        *others,
    )  # fmt: skip
    times = [
        (
            one.workers,
            *(
                tables.seconds(value)
                for value in (one.wait_p50, one.wait_p95, one.run_p50, one.run_p95, one.run_p99)
            ),
        )
        for one in by_count
    ]
    heads = ("workers", "wait p50", "wait p95", "run p50", "run p95", "run p99")
    return [
        Table("Throughput, and what was busy", columns, busy,
              "jobs/s: median of the rounds. machine, Valkey and what follows: cores in use."),
        Table("How long jobs waited and ran", heads, times,
              "Medians over the rounds. The waits are those in a backlog that is never empty."),
    ]  # fmt: skip
