"""The command line of `scripts/chaos`."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from chaoslab import catalog, docs, lab, soak, table
from chaoslab.catalog import Fault
from chaoslab.judge import Row
from twolane.quantities import Duration

AT_ONCE = 6  # faults; most of each is waiting for leases to end


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Inject faults into real workers on a real Valkey, and judge what became of each job.

    \b
    scripts/chaos quick                  each fault once, some minutes
    scripts/chaos run sigkill-mid-job    one fault, or several
    scripts/chaos soak --for 5m          faults mixed at random; slopes of memory, keys, descriptors
    scripts/chaos list                   the faults, and what is promised under each

    Exit code 1 when a promise was broken. The seed is printed: the same one makes the same choices.
    """
    # What our producers say of outages that we make ourselves.
    logging.getLogger("twolane").setLevel(logging.ERROR)


def _seed_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--seed", type=int, help="Default: from the clock; it is printed.")(command)


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")(command)


def _keep_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Where to put the logs and the ledger of each row that broke a promise.",
    )(command)  # fmt: skip


def _need_all_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--need-all", is_flag=True, help="A fault that has to be left out breaks its promise."
    )(command)


@main.command("list")
@_json_option
def list_(as_json: bool) -> None:
    """List the faults, and what is promised under each."""
    faults = catalog.load().values()
    if as_json:
        rows = [
            {"name": one.name, "area": one.area, "what": one.what, "promise": one.promise}
            for one in faults
        ]
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    area = ""
    for one in faults:
        if one.area != area:
            area = one.area
            console.print(f"[bold]{area}[/bold]")
        console.print(f"  {one.name:<32} {escape(one.what)}", soft_wrap=True)
        console.print(f"  {'':<32} [dim]{escape(one.promise)}[/dim]", soft_wrap=True)


@main.command()
@_seed_option
@_json_option
@_keep_option
@_need_all_option
@click.option(
    "--at-once", type=click.IntRange(1), default=AT_ONCE, show_default=True,
    help="How many side by side.",
)  # fmt: skip
@click.option(
    "--write-docs", "page", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE", help="Put the table between the markers of this file.",
)  # fmt: skip
def quick(
    seed: int | None,
    as_json: bool,
    at_once: int,
    keep: Path | None,
    need_all: bool,
    page: Path | None,
) -> None:
    """Inject each fault once.

    \b
    scripts/chaos quick
    scripts/chaos quick --seed 7 --json >rows.json
    scripts/chaos quick --write-docs docs/reliability.md
    """
    _inject(list(catalog.load().values()), seed, as_json, at_once, keep, need_all, page)


@main.command("run")
@click.argument("names", nargs=-1, required=True, metavar="FAULT...")
@_seed_option
@_json_option
@_keep_option
@_need_all_option
@click.option("--times", type=click.IntRange(1), default=1, help="How often.", show_default=True)
@click.option(
    "--at-once", type=click.IntRange(1), default=AT_ONCE, show_default=True,
    help="How many side by side.",
)  # fmt: skip
def run_(
    names: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    times: int,
    at_once: int,
    keep: Path | None,
    need_all: bool,
) -> None:
    """Inject one fault, or several, by name.

    \b
    scripts/chaos run sigkill-mid-job
    scripts/chaos run restart-1s kill-storm --times 3 --keep broken
    """
    known = catalog.load()
    for one in names:
        if one not in known:
            raise click.UsageError(f"{one!r} is no fault; `scripts/chaos list` names them")
    _inject([known[one] for one in names] * times, seed, as_json, at_once, keep, need_all, None)


@main.command("soak")
@click.option(
    "--for", "seconds", type=Duration(least=10.0), default="1h", metavar="TIME", show_default=True,
    help="How long: 90s, 5m, 1h.",
)  # fmt: skip
@_seed_option
@_json_option
def soak_(seconds: float, seed: int | None, as_json: bool) -> None:
    """Mix faults at random for a long time; report what was lost, and what grows.

    Slopes are those of straight lines after a quarter of the time, with 95 % intervals; whether
    something grows is only judged from 50 minutes on.

    \b
    scripts/chaos soak --for 5m
    scripts/chaos soak --for 1h --json >soak.json
    """
    seed = time.time_ns() % 1_000_000 if seed is None else seed
    say(f"soak for {seconds:.0f} s, seed {seed}")
    report = asyncio.run(soak.run(seconds, seed, say))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        table.show_soak(Console(width=None if sys.stdout.isatty() else 160), report)
    for one in report.broken:
        say(f"BROKEN: {one}")
    sys.exit(1 if report.broken else 0)


def _inject(
    faults: list[Fault],
    seed: int | None,
    as_json: bool,
    at_once: int,
    keep: Path | None,
    need_all: bool,
    page: Path | None,
) -> None:
    seed = time.time_ns() % 1_000_000 if seed is None else seed
    say(f"{len(faults)} faults, seed {seed}")
    began = time.monotonic()
    rows = asyncio.run(_all(faults, seed, at_once, keep))
    took = time.monotonic() - began
    for one in rows:
        if need_all and one.skipped:
            one.broken.append(one.skipped)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        table.show(Console(width=None if sys.stdout.isatty() else 160), rows)
    broken = [one for one in rows if one.broken]
    say(f"{len(rows)} faults in {took:.0f} s, seed {seed}; {len(broken)} broke a promise")
    for one in broken:
        say(f"BROKEN {one.name}: {'; '.join(one.broken)}")
        for excerpt in one.logs:
            print(textwrap.indent(excerpt, "    | "), file=sys.stderr, flush=True)
    if page is not None:
        docs.write(page, rows, took, seed)
        say(f"wrote the table into {page}")
    sys.exit(1 if broken else 0)


async def _all(faults: Sequence[Fault], seed: int, at_once: int, keep: Path | None) -> list[Row]:
    """Several at a time, the heavy ones alone; the rows in the order of the faults."""
    rows: list[Row | None] = [None] * len(faults)
    places = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        fault = faults[number]
        async with places:
            rows[number] = row = await _one(fault, seed + number, keep)
        took = f"{row.seconds:.1f} s"
        say(f"{fault.name}: {'BROKEN' if row.broken else row.skipped or 'kept'}, {took}")

    # The longest first, so that the others fill the time beside them.
    light = [number for number, fault in enumerate(faults) if not fault.heavy]
    light.sort(key=lambda number: -faults[number].limit)
    await asyncio.gather(*(one(number) for number in light))
    for number, fault in enumerate(faults):
        if fault.heavy:
            await one(number)
    return [row for row in rows if row is not None]


async def _one(fault: Fault, seed: int, keep: Path | None) -> Row:
    if fault.needs and shutil.which(fault.needs) is None:
        row = Row(fault.name, fault.area, fault.what)
        row.skipped = f"it needs {fault.needs} (Debian: apt-get install {fault.needs})"
        return row
    return await lab.run(fault, seed, keep)


def say(text: str) -> None:
    print(f"scripts/chaos: {text}", file=sys.stderr, flush=True)
