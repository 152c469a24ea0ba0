"""Writes docs/benchmarks.md from a report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from benchmarks import tables, targets
from benchmarks.contestants import ALL as CONTESTANTS
from benchmarks.environments import ROOT
from benchmarks.report import Report
from benchmarks.summary import workloads_of
from benchmarks.workloads import ALL as WORKLOADS

PAGE: Final = ROOT / "docs" / "benchmarks.md"

METHOD: Final = """\
All contestants run in turn, {rounds} rounds of A B C A B C (the tables say how many samples each
workload has), against one embedded Valkey without
persistence, over TCP on the loopback interface; it is flushed between them. Each peer has an
environment of its own with the versions below, and is started by its own command. Every peer is
set up as its own documentation advises for speed, with results off; twolane runs with all
guarantees on and its results recorded.

- **Rates.** The workers start on an empty queue and run jobs until each process has had one. Then
  they are stopped (SIGSTOP), the queue is filled, and they are let go; the time counts from there
  to the last job's end, or to the limit. Neither start-up nor enqueueing counts.
- **Completion** is the same for all: each job writes the time and its process into its own place
  of a file in shared memory, some 0.2 µs.
- **How many jobs** a run has depends on the contestant, so that each runs for some seconds; the
  column says how many, and how many of them were done where the limit came first.
- **Latency** is an open loop: 50 jobs a second, from the time at which each should have been sent
  to the first line of its body, whatever the sends before it took.
- **CPU jobs** do a fixed number of loops ({loops:,} a millisecond here), not a fixed time. *Bare
  cores* are independent processes, each told its share once: no queue, no pool.
- **Idle** workers have run a few jobs before; the processor time is that of the worker's whole
  process tree over {idle:.0f} s, memory likewise.
- A figure is the median of the samples, with the least and the most; *twolane is* tells how many
  times better twolane's median is. The *load before* tells whether the machine was quiet.
"""


def page(report: Report) -> str:
    parts = ["# Benchmarks", _about(report), "## Figures to reach"]
    parts += [tables.markdown(tables.targets_grid(report), words=1)]
    if (best := targets.best_peer(report)) is not None:
        name, rate = best
        parts.append(
            f"The best peer at concurrency 32 was {CONTESTANTS[name].title}, {rate:,.0f} jobs/s."
        )
    parts += ["## How it is measured", _method(report), "## Side by side"]
    for workload in workloads_of(report):
        grid = tables.workload_grid(report, workload)
        parts += [f"### {grid.title[0].upper()}{grid.title[1:]}", tables.markdown(grid)]
    parts += ["## What it costs"]
    if (costs := tables.cost_grid(report)).lines:
        parts += [tables.markdown(costs)]
    parts += [
        "The server's commands while twolane's jobs run (`INFO commandstats`; commands that a "
        "script calls are counted by themselves and within its EVALSHA):",
        tables.markdown(tables.commands_grid(report), words=2),
    ]
    parts += ["## What was set", _settings(report), "## Versions", _versions(report)]
    if failures := _failures(report):
        parts += ["## What failed", failures]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write(report: Report, path: Path = PAGE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report), encoding="utf-8")


def _about(report: Report) -> str:
    machine = report.machine
    partial = ""
    if report.profile != "full" or {one.workload for one in report.samples} != set(WORKLOADS):
        partial = " **This was not the whole benchmark.**"
    return (
        f"Written by `scripts/bench --write-docs` from one run of `{report.command}`, begun "
        f"{report.began}, {report.seconds / 60:.0f} minutes, at commit `{report.commit}`.{partial} "
        f"To run it again: `scripts/bench full --json bench.json`, then "
        f"`scripts/bench --write-docs bench.json`.\n\n"
        f"Machine: {machine.processor}, {machine.cores} usable cores, {machine.memory_gb:.0f} GB, "
        f"{machine.kernel}, load before the run {machine.load_before:.2f}. Python "
        f"{machine.python}, Valkey {machine.valkey}."
    )


def _method(report: Report) -> str:
    seconds = [one.seconds for one in report.samples if one.workload == "idle" and not one.error]
    return METHOD.format(
        rounds=report.rounds, loops=report.loops_per_ms, idle=min(seconds, default=10)
    )


def _settings(report: Report) -> str:
    """By contestant; the workloads for which nothing else was set are listed together."""
    lines = []
    for name in dict.fromkeys(one.contestant for one in report.setups):
        lines.append(f"- **{CONTESTANTS[name].title}**")
        by_text: dict[str, list[str]] = {}
        for one in report.setups:
            if one.contestant == name:
                by_text.setdefault(one.settings, []).append(one.workload)
        lines += [f"  - {', '.join(where)}: `{text}`" for text, where in by_text.items()]
    return "\n".join(lines)


def _versions(report: Report) -> str:
    lines = []
    for name, versions in report.versions.items():
        text = ", ".join(f"{package} {version}" for package, version in versions.items())
        lines.append(f"- {name}: {text or 'the standard library'}")
    return "\n".join(lines)


def _failures(report: Report) -> str:
    lines = []
    for one in report.samples:
        if one.error:
            last = (one.error.strip().splitlines() or [""])[-1]
            # What a library prints may name files of the machine.
            text = re.sub(r"(/[\w.@+-]+){2,}", "…", last)
            title = CONTESTANTS[one.contestant].title
            lines.append(f"- {one.workload}, {title}, round {one.round}: `{text}`")
    return "\n".join(lines)
