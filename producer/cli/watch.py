"""The command ``watch``: a fleet's live view."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click
import msgspec

from twolane.commandline import broker_option, option, say
from twolane.quantities import DURATION

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from rich.console import Group
    from rich.table import Table

    from producer.comparison import Quantiles
    from producer.watch import Snapshot

PERIOD_SECONDS: Final = 1.0
# A line of history: two minutes fit a terminal of 132 columns.
HISTORY: Final = 120
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
# So that the view fits a screen; --json has them all.
MAX_WORKERS: Final = 25


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--for", "duration", type=DURATION, default=None, metavar="TIME",
    help="End after so long. Default: at Ctrl-C.",
)  # fmt: skip
@broker_option
@option("--json", "as_json", is_flag=True, help="One JSON record a second on standard output.")
def watch(duration: float | None, broker: str | None, as_json: bool) -> int:
    """The fleet now, once a second: lanes, workers, throughput.

    \b
    twolane watch
    twolane watch --json --for 10s > records.jsonl
    """
    from producer.cli.session import with_broker

    async def work(client: Redis) -> int:
        from producer.watch import Watcher

        watcher = Watcher(client)
        if as_json:
            await _each_second(watcher.look, duration, _print_json)
        elif sys.stdout.isatty():
            await _live(watcher.look, duration)
        else:
            await _each_second(watcher.look, duration, _print_lines)
        return 0

    try:
        return with_broker(broker, work)
    except KeyboardInterrupt:
        return 0  # the way to end it


async def _each_second(
    look: Callable[[], Awaitable[Snapshot]],
    duration: float | None,
    show: Callable[[Snapshot], None],
) -> None:
    loop = asyncio.get_running_loop()
    begin = due = loop.time()
    while True:
        show(await look())
        due += PERIOD_SECONDS
        if duration is not None and due > begin + duration:
            return
        await asyncio.sleep(max(0.0, due - loop.time()))


async def _live(look: Callable[[], Awaitable[Snapshot]], duration: float | None) -> None:
    from rich.live import Live

    from producer.cli import tables

    history = History(HISTORY)
    with Live(console=tables.console(), screen=False, auto_refresh=False) as live:

        def show(snapshot: Snapshot) -> None:
            history.add(snapshot)
            live.update(render(snapshot, history), refresh=True)

        await _each_second(look, duration, show)


def _print_json(snapshot: Snapshot) -> None:
    click.echo(json.dumps(msgspec.to_builtins(snapshot), ensure_ascii=False))


def _print_lines(snapshot: Snapshot) -> None:
    from producer.cli import tables

    for lane in snapshot.lanes:
        run = tables.seconds(lane.run.p95) if lane.run else "–"
        wait = tables.seconds(lane.wait.p95) if lane.wait else "–"
        click.echo(
            f"{snapshot.seconds:6.0f} s  {lane.lane:3}  in {tables.number(lane.enqueued_rate)}/s  "
            f"out {tables.number(lane.completed_rate)}/s  waiting {lane.waiting:,}  "
            f"oldest {tables.seconds(lane.oldest_seconds)}  "
            f"running {lane.running:,} of {lane.slots:,} slots on {lane.workers} workers  "
            f"wait p95 {wait}  run p95 {run}"
        )
    for name in snapshot.joined:
        click.echo(f"{snapshot.seconds:6.0f} s  + {tables.plain(name)}")
    for name in snapshot.left:
        click.echo(f"{snapshot.seconds:6.0f} s  - {tables.plain(name)}")
    for warning in snapshot.warnings:
        say(warning)


class History:
    """The throughput of each lane over the last looks, and when workers came or went."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._rates: dict[str, deque[float]] = {}
        self._marks: deque[str] = deque(maxlen=length)

    def add(self, snapshot: Snapshot) -> None:
        for lane in snapshot.lanes:
            rates = self._rates.setdefault(lane.lane, deque(maxlen=self._length))
            rates.append(lane.completed_rate)
        both = snapshot.joined and snapshot.left
        mark = "±" if both else "+" if snapshot.joined else "-" if snapshot.left else " "
        self._marks.append(mark)

    def lines(self, width: int) -> list[tuple[str, str]]:
        """A label and a line of blocks for each lane, then the marks, the newest at the right."""
        found = []
        for lane, rates in self._rates.items():
            shown = list(rates)[-width:]
            top = max(shown, default=0.0) or 1.0
            blocks = (BLOCKS[round(rate / top * (len(BLOCKS) - 1))] for rate in shown)
            found.append((f"{lane} jobs/s, at most {top:,.0f}", "".join(blocks)))
        marks = "".join(list(self._marks)[-width:])
        if marks.strip():
            found.append(("workers came +, went -", marks))
        return found


def render(snapshot: Snapshot, history: History) -> Group:
    """The view of one look."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2))
    for label, blocks in history.lines(HISTORY // 2):
        line.add_row(Text(label, style="dim"), Text(blocks))
    warnings = [Text(warning, style="bold yellow") for warning in snapshot.warnings]
    parts = [_lanes(snapshot), Text(), line, Text(), _workers(snapshot), *warnings]
    return Group(*parts)


def _lanes(snapshot: Snapshot) -> Table:
    from producer.cli import tables

    columns = (
        "lane", "in/s", "out/s", "waiting", "oldest", "slots busy", "workers",
        "wait p50/p95/p99", "run p50/p95/p99",
    )  # fmt: skip
    rows = [
        (
            lane.lane,
            tables.number(lane.enqueued_rate),
            tables.number(lane.completed_rate),
            f"{lane.waiting:,}",
            tables.seconds(lane.oldest_seconds),
            f"{lane.running:,} of {lane.slots:,}",
            lane.workers,
            _three(lane.wait),
            _three(lane.run),
        )
        for lane in snapshot.lanes
    ]
    return tables.table(columns, rows, right=1)


def _three(found: Quantiles | None) -> str:
    from producer.cli import tables

    if found is None:
        return "–"
    return " / ".join(tables.seconds(one) for one in (found.p50, found.p95, found.p99))


def _workers(snapshot: Snapshot) -> Table:
    from producer.cli import tables

    columns = ("worker", "host", "busy", "jobs/s", "CPU", "memory", "loop lag", "")
    shown = snapshot.workers[:MAX_WORKERS]
    rows = [
        (
            worker.worker,
            worker.host,
            f"{worker.busy:,} of {worker.slots:,}",
            tables.number(worker.rate),
            f"{worker.cpu_share:.0%}",
            tables.size(worker.memory_bytes),
            tables.seconds(worker.loop_lag_ms / 1000),
            "draining" if worker.draining else "",
        )
        for worker in shown
    ]
    if len(snapshot.workers) > len(shown):
        rows.append((f"and {len(snapshot.workers) - len(shown)} more", *("",) * 7))
    return tables.table(columns, rows, right=2)
