"""The report of ``twolane load``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from producer import queueing
from producer.cli import tables
from producer.comparison import compare
from producer.environment import Environment
from producer.open_load import Loaded
from producer.report import charts
from producer.report.page import Chart, Table, render
from producer.report.run import did, is_nothing, jobs
from producer.sizing import Check
from twolane.commandline import counted
from twolane.outcome import Outcome


def page(
    loaded: Loaded,
    check: Check,
    outcomes: Sequence[Outcome],
    waits: Sequence[float],
    seen: Sequence[str],
    machine: Environment,
    data: Any,
) -> str:
    title = (
        f"At {loaded.sent_rate:,.4g} jobs/s, 95 % of the jobs started within "
        f"{tables.seconds(loaded.wait.p95)} and ended within {tables.seconds(loaded.latency.p95)}"
    )
    lead = (
        f"twolane load: {data['job']} at {loaded.rate:g} jobs/s ({loaded.arrivals} arrivals), "
        f"{'; '.join(data['conditions'])}. Times count from when a job was meant to be sent."
    )
    parts = [
        _rates(loaded),
        _over_time(loaded),
        _waits(loaded, check, outcomes, waits),
        *_did(outcomes),
    ]
    whole = {**data, "jobs": jobs(outcomes)}
    return render(title, lead, seen, [*parts, _table(loaded)], machine, whole)


def _rates(loaded: Loaded) -> Chart:
    at = list(range(1, len(loaded.per_second) + 1))
    series = [
        ("sent", at, [one.sent for one in loaded.per_second]),
        ("completed", at, [one.completed for one in loaded.per_second]),
    ]
    kept = loaded.completed_rate / max(loaded.sent_rate, 1e-9)
    title = (
        f"{loaded.sent_rate:,.4g} jobs/s were sent, {loaded.completed_rate:,.4g} completed "
        f"({kept:.0%})"
    )
    made = charts.lines(series, "second", "jobs/s", marks=len(at) <= 30)
    return Chart(title, made)


def _over_time(loaded: Loaded) -> Chart:
    def column(name: str) -> tuple[list[float], list[float]]:
        rows = [
            (number + 1.0, getattr(one, name) * 1000)
            for number, one in enumerate(loaded.per_second)
            if getattr(one, name) is not None
        ]
        return [at for at, _ in rows], [value for _, value in rows]

    series = [
        ("latency p95", *column("latency_p95")),
        ("latency p50", *column("latency_p50")),
        ("wait p95", *column("wait_p95")),
    ]
    worst = max((value, at) for at, value in zip(series[0][1], series[0][2], strict=True))
    title = f"The worst second was number {worst[1]:.0f}, with a p95 latency of {worst[0]:,.3g} ms"
    made = charts.lines(
        series, "second (of the intended send time)", "ms", marks=len(series[0][1]) <= 30
    )
    made.update_yaxes(title={"text": "time, ms"})
    return Chart(title, made)


def _waits(
    loaded: Loaded, check: Check, outcomes: Sequence[Outcome], waits: Sequence[float]
) -> Chart:
    samples = {
        "wait, measured": waits,
        "run": [one.run_seconds for one in outcomes],
    }
    note = "Times under 1 ms are drawn at 1 ms."
    if is_nothing({"wait": waits}):
        del samples["wait, measured"]
        note += " No job waited for longer: the measured waits are not drawn."
    made = charts.shares(samples, "time")
    predicted = queueing.wait(max(1, loaded.slots), loaded.sent_rate, loaded.run_mean, loaded.scv)
    if predicted.mean != float("inf"):
        shares = np.linspace(0, 0.999, 200)
        cuts = [max(charts.SHORTEST, predicted.quantile(float(one))) for one in shares]
        made.add_scatter(
            x=cuts, y=(shares * 100).tolist(), mode="lines", name="wait, predicted (M/G/c)",
            line={"color": charts.COLOURS[2], "dash": "dot", "width": 2.2}, showlegend=True,
        )  # fmt: skip
        longest = max(cuts[-1], *(max(values) for values in samples.values()))
        charts.seconds_axis(made.layout.xaxis, charts.SHORTEST, longest)
        measured = tables.seconds(max(check.measured_p95, charts.SHORTEST))
        title = (
            f"95 % waited less than {measured}; predicted were "
            f"{tables.seconds(check.predicted_p95)}"
        )
    else:
        title = "No wait can be predicted: more is sent than the slots can do"
    return Chart(title, made, note)


def _did(outcomes: Sequence[Outcome]) -> list[Chart]:
    return did(compare(outcomes)) if outcomes else []


def _table(loaded: Loaded) -> Table:
    rows = [
        (
            name, tables.seconds(one.p50), tables.seconds(one.p95), tables.seconds(one.p99),
            "" if mean is None else tables.seconds(mean),
        )
        for name, one, mean in (
            ("wait", loaded.wait, loaded.wait_mean),
            ("run", loaded.run, loaded.run_mean),
            ("latency", loaded.latency, loaded.wait_mean + loaded.run_mean),
            ("sender late by", loaded.late, None),
        )
    ]  # fmt: skip
    fleet = f"{counted(loaded.workers, 'worker')} with {counted(loaded.slots, 'slot')} together"
    note = f"{counted(loaded.jobs, 'job')}; {fleet}."
    return Table("From the intended send time", ("", "p50", "p95", "p99", "mean"), rows, note)
