"""The command ``watch``: a fleet's live view."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from twolane.commandline import broker_option, option, plain, say, to_json
from twolane.quantities import DURATION

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from rich.console import Group, RenderableType

    from producer.cli.fitting import Fitted
    from producer.comparison import Quantiles
    from producer.watch import Snapshot, WorkerNow

PERIOD_SECONDS: Final = 1.0
# Seconds of history that are kept; as many are shown as the terminal has room for.
HISTORY: Final = 300
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
# Columns that the labels of the history take.
LABEL: Final = 28
# Lines of the view beside those of the lanes and of the workers.
OTHER_LINES: Final = 10
# So many workers are shown at the least.
LEAST_WORKERS: Final = 3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--for", "duration", type=DURATION, default=None, metavar="TIME",
    help="End after so long, as 10s or 5m. Default: at Ctrl-C.",
)  # fmt: skip
@broker_option
@option("--json", "as_json", is_flag=True, help="One JSON record a second on standard output.")
def watch(duration: float | None, broker: str | None, as_json: bool) -> int:
    """The fleet now, once a second.

    Each lane: what comes in and goes out, what waits, how long it waits and runs. Each worker. A
    line of history for the throughput, with the moments marked at which workers came or went.

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
    console = tables.console()
    with Live(console=console, screen=False, auto_refresh=False) as live:

        def show(snapshot: Snapshot) -> None:
            history.add(snapshot)
            width, height = console.size  # the window may have changed
            live.update(render(snapshot, history, width, height), refresh=True)

        await _each_second(look, duration, show)


def _print_json(snapshot: Snapshot) -> None:
    click.echo(to_json(msgspec.to_builtins(snapshot)))


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


def render(snapshot: Snapshot, history: History, width: int, height: int) -> Group:
    """The view of one look, for a terminal of that size."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2))
    line.add_column(min_width=LABEL, no_wrap=True)
    line.add_column(no_wrap=True)
    for label, blocks in history.lines(max(10, width - LABEL - 4)):
        line.add_row(Text(label, style="dim"), Text(blocks))
    lanes = _lanes(snapshot)
    parts: list[RenderableType] = [lanes, Text(), line]
    if snapshot.workers:
        parts += [Text(), _workers(snapshot, height - OTHER_LINES - lanes.height(width), width)]
    parts += [Text(plain(warning), style="bold yellow") for warning in snapshot.warnings]
    return Group(*parts)


def _lanes(snapshot: Snapshot) -> Fitted:
    from producer.cli import tables

    columns = (
        "lane", "workers", "busy/slots", "in/s", "out/s", "waiting", "oldest",
        "wait p50/95/99", "run p50/95/99",
    )  # fmt: skip
    rows = [
        (
            lane.lane,
            lane.workers,
            f"{lane.running:,}/{lane.slots:,}",
            tables.number(lane.enqueued_rate),
            tables.number(lane.completed_rate),
            f"{lane.waiting:,}",
            tables.seconds(lane.oldest_seconds),
            _three(lane.wait),
            _three(lane.run),
        )
        for lane in snapshot.lanes
    ]
    return tables.table(columns, rows, right=1)


def _three(found: Quantiles | None) -> str:
    """In one unit, so that a row of the view fits 100 columns: ``51.8/55.5/63.0 ms``."""
    from producer.cli import tables

    if found is None:
        return "–"
    values = (found.p50, found.p95, found.p99)
    factor, unit = (1, "s") if values[1] >= 1 else (1e3, "ms")
    return "/".join(tables.number(one * factor) for one in values) + f" {unit}"


def _workers(snapshot: Snapshot, lines: int, width: int) -> Fitted:
    """As many workers as so many lines hold; --json has them all."""
    made = _table(snapshot.workers, 0)
    if made.height(width) <= lines:
        return made
    parts = len(list(made.parts(width)))
    most = max(LEAST_WORKERS, (lines + 1) // parts - 2)  # less a head and a blank line each
    if len(snapshot.workers) <= most:
        return made
    return _table(snapshot.workers[: most - 1], len(snapshot.workers) - most + 1)


def _table(workers: Sequence[WorkerNow], left_out: int) -> Fitted:
    from producer.cli import tables

    columns = ("worker", "host", "busy/slots", "jobs/s", "CPU", "memory", "loop lag", "")
    rows = [
        (
            _cut(worker.worker, 32),
            _cut(worker.host, 16),
            f"{worker.busy:,}/{worker.slots:,}",
            tables.number(worker.rate),
            f"{worker.cpu_share:.0%}",
            tables.size(worker.memory_bytes),
            tables.seconds(worker.loop_lag_ms / 1000),
            _state(worker),
        )
        for worker in workers
    ]
    if left_out:
        rows.append((f"and {left_out} more", *("",) * 7))
    return tables.table(columns, rows, right=2, until=len(columns) - 1)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _state(worker: WorkerNow) -> str:
    from producer.watch import SILENT_SECONDS

    if worker.silent_seconds >= SILENT_SECONDS:
        return f"silent {worker.silent_seconds:.0f} s"
    return "draining" if worker.draining else ""
