"""What a command says of a run: progress while it goes on, then the comparison."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from producer import comparison, primes
from producer.cli import tables
from producer.collect import Collected, follow
from twolane import fleet
from twolane.commandline import counted, plain, print_json, say
from twolane.keys import LANES, Lane
from twolane.outcome import Outcome

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from producer.environment import Environment

FAILED = 4
# How often the workers are looked for while nothing comes in, s.
LOOK_SECONDS = 5.0
# How long an enqueueing may pause unsaid, s: a producer waits out an outage for as long.
OPEN_SECONDS = 60.0


async def wait_with_progress(
    client: Redis, name: str, expected: Mapping[Lane, int], timeout: float | None
) -> Collected:
    """Follow a run to its end, with a bar for each lane where standard error is a terminal.

    ``expected`` is the number of jobs by lane. On Ctrl-C it says that the run goes on.
    """
    warn = _Absence(client, expected)
    try:
        if not sys.stderr.isatty():
            return await follow(client, name, timeout=timeout, on_idle=warn)
        return await _with_bars(client, name, expected, timeout, warn)
    except asyncio.CancelledError:
        say(f"\nrun {name} goes on: `twolane runs show {name} --wait`, `twolane cancel {name}`")
        raise


async def _with_bars(
    client: Redis,
    name: str,
    expected: Mapping[Lane, int],
    timeout: float | None,
    warn: Callable[[Collected], Awaitable[None]],
) -> Collected:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=tables.console(sys.stderr)) as bars:
        tasks = {
            lane: bars.add_task(f"{lane} lane", total=total, rate="")
            for lane, total in expected.items()
            if total
        }
        began = monotonic()

        def show(collected: Collected) -> None:
            for lane, task in tasks.items():
                count = collected.by_lane[lane]
                rate = count / max(monotonic() - began, 0.001)
                bars.update(task, completed=count, rate=f"{tables.number(rate)} jobs/s")

        return await follow(client, name, timeout=timeout, on_progress=show, on_idle=warn)


class _Absence:
    """Warns once a lane when its jobs wait and no worker serves it, and once of an absent producer.

    A run of which the enqueueing has not ended is waited for, but it may never end.
    """

    def __init__(self, client: Redis, expected: Mapping[Lane, int]) -> None:
        self._client = client
        self._expected = {lane for lane in LANES if expected.get(lane)}
        self._looked = -LOOK_SECONDS
        self._total = -1
        self._grown = 0.0
        self._said = False

    async def __call__(self, collected: Collected) -> None:
        self._look_for_producer(collected)
        await self._look_for_workers()

    def _look_for_producer(self, collected: Collected) -> None:
        run = collected.run
        if run.total != self._total:
            self._total, self._grown = run.total, monotonic()
        elif not (run.sealed or self._said) and monotonic() - self._grown >= OPEN_SECONDS:
            self._said = True
            say(
                f"run {run.name} is waited for although no job was added to its {run.total:,} for "
                f"{OPEN_SECONDS:g} s: its enqueueing has not ended, and never will if its producer "
                f"died; `twolane runs show {run.name}` tells what it has come to"
            )

    async def _look_for_workers(self) -> None:
        if not self._expected or monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = monotonic()
        served = {beat.lane for beat in await fleet.workers(self._client)}
        for lane in sorted(self._expected - served):
            self._expected.discard(lane)
            say(f"no {lane} worker is running; start one: `twolane worker {lane}` or `twolane up`")


def finish(collected: Collected, as_json: bool) -> int:
    """Print a run's comparison; returns the exit code: 4 where a job failed."""
    if as_json:
        print_json(as_data(collected))
    else:
        show(collected)
    return exit_code(collected)


ROW_COLUMNS: Final = (
    "lane", "job", "jobs", "failed", "cancelled", "retried", "wall_seconds", "jobs_per_second",
    "wait_p50_seconds", "wait_p95_seconds", "wait_p99_seconds", "run_p50_seconds",
    "run_p95_seconds", "run_p99_seconds", "cpu_seconds", "cores", "at_once", "speedup",
)  # fmt: skip


def print_rows(collected: Collected) -> None:
    """The comparison as CSV on standard output."""
    from producer.cli.output import print_csv

    rows = [
        [
            row.lane, row.job or "all", row.jobs, row.failed, row.cancelled, row.retried, row.wall,
            row.throughput, row.wait.p50, row.wait.p95, row.wait.p99, row.run.p50, row.run.p95,
            row.run.p99, row.cpu_seconds, row.cores, row.concurrency, row.speedup,
        ]
        for row in (_rows(collected) if collected.outcomes else [])
    ]  # fmt: skip
    print_csv(ROW_COLUMNS, rows)


def write_page(
    path: Path, collected: Collected, seen: Sequence[str], machine: Environment | None, data: Any
) -> None:
    """The run's report as a file."""
    from producer.cli.output import write_report
    from producer.report import run

    kinds = failures(collected.outcomes)
    write_report(path, run.page(collected, seen, machine, {"kind": "run", **data}, kinds))


def exit_code(collected: Collected) -> int:
    return FAILED if any(not one.success for one in collected.outcomes) else 0


def as_data(collected: Collected) -> dict[str, Any]:
    """A run as JSON has it."""
    outcomes = collected.outcomes
    return {
        "run": msgspec.to_builtins(collected.run),
        "comparison": msgspec.to_builtins(_rows(collected)),
        "primes": [msgspec.to_builtins(check) for check in primes.checks(outcomes)],
        "failures": [
            {"error": error, "jobs": count, "example": example}
            for error, count, example in failures(outcomes)
        ],
    }


def _rows(collected: Collected) -> list[comparison.Row]:
    return comparison.compare(collected.outcomes, collected.run.created_ms)


def show(collected: Collected) -> None:
    """The comparison table, the check of the primes and the failures, on standard output."""
    out = tables.console()
    run, outcomes = collected.run, collected.outcomes
    out.print(
        plain(f"run {run.name}: {len(outcomes):,} of {counted(run.total, 'job')}"), style="bold"
    )
    if not outcomes:
        return
    out.print(tables.comparison(_rows(collected)))
    out.print(tables.LEGEND, style="dim")
    for check in primes.checks(outcomes):
        out.print(plain(check), style="green" if check.right else None)
    blocked = {one.function: one.blocked_at for one in outcomes if one.blocked_at}
    for function, place in blocked.items():
        out.print(plain(f"{function} blocked the event loop at {place}"))
    for error, count, example in failures(outcomes):
        out.print(plain(f"{count:,} × {error}, for example: {example}"))
    if any(not one.success and not one.cancelled for one in outcomes):
        out.print(plain(f"`twolane dead list --run {run.name}` shows the failed ones"), style="dim")


def failures(outcomes: list[Outcome]) -> list[tuple[str, int, str]]:
    """The kinds of failure, how many of each, and the message of one; the commonest first."""
    kinds: dict[str, tuple[int, str]] = {}
    for one in outcomes:
        if one.success:
            continue
        error, message = ("cancelled", one.id) if one.cancelled else ("?", one.id)
        if one.error is not None:
            error, message = one.error.type, f"{one.id}: {one.error.message}"
        count, example = kinds.get(error, (0, message))
        kinds[error] = (count + 1, example)
    ordered = sorted(kinds.items(), key=lambda item: -item[1][0])
    return [(error, count, " ".join(text.split())[:300]) for error, (count, text) in ordered]
