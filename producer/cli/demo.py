"""The command ``demo``."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from twolane.commandline import option, print_json, say, to_json
from twolane.errors import TwolaneError
from twolane.registry import SHIPPED_JOBS

if TYPE_CHECKING:
    from producer.collect import Collected
    from producer.submit import Call

# What the demo reads: the project's own source files.
SOURCE: Final = Path(__file__).resolve().parents[2]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option("--fetches", type=click.IntRange(1), default=400, help="Web requests of 50 ms each.")
@option("--queries", type=click.IntRange(1), default=100, help="Database queries.")
@option("--concurrency", type=click.IntRange(1), default=100, help="IO jobs at once.")
@option(
    "--processes", type=click.IntRange(1, 1024), default=None,
    help="CPU jobs at once. Default: the cores that may be used.",
)  # fmt: skip
@option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("twolane-demo.json"),
    metavar="FILE", help="Where to save the results, as JSON.",
)  # fmt: skip
@option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), default=None, metavar="FILE",
    help="Where to write the report, one HTML file with charts. "
    "Default: beside the results, as twolane-demo.html.",
)  # fmt: skip
@option("--csv", "as_csv", is_flag=True, help="Print the comparison as CSV.")
@option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def demo(
    fetches: int, queries: int, concurrency: int, processes: int | None, output: Path,
    report: Path | None, as_csv: bool, as_json: bool,
) -> int:  # fmt: skip
    """Everything in one command on this machine.

    Starts a private broker, a web service to fetch from and one worker a lane; runs web requests,
    file reads, database queries and prime counts; compares what they did.

    \b
    twolane demo
    twolane demo --processes 1 --report one-process.html
    """
    from producer.cli.output import check_place
    from producer.cli.session import run

    page = report or output.with_suffix(".html")
    _check_place(output)
    check_place(page, as_json, as_csv)
    return run(
        lambda: _demo(fetches, queries, concurrency, processes, output, page, as_csv, as_json)
    )


async def _demo(
    fetches: int, queries: int, concurrency: int, processes: int | None, output: Path,
    page: Path, as_csv: bool, as_json: bool,
) -> int:  # fmt: skip
    from producer import comparison, environment, story
    from producer.cli import report
    from producer.local import LocalFleet, target
    from producer.submit import submit
    from twolane import fleet as heartbeats
    from twolane.broker import connect
    from twolane.embedded import Embedded
    from twolane.keys import LANES

    machine = environment.look()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="twolane-demo-"))
        say("starting a broker, a web service and two workers on this machine …")
        server = stack.enter_context(Embedded.private())
        client = connect(server.url)
        io = [
            f"--concurrency={concurrency}",
            f"--files-root={SOURCE}",
            f"--database-url=sqlite:///{folder}/demo.db",
        ]
        try:
            async with (
                LocalFleet(server.url, ["--log-level=warning"], grace_seconds=5) as workers,
                target() as service,
            ):
                await workers.start("io", *io)
                await workers.start("cpu", *([f"--processes={processes}"] if processes else []))
                await workers.wait_ready(client)
                machine.broker = await environment.broker_of(client)
                slots = {beat.lane: beat.slots for beat in await heartbeats.workers(client)}
                calls = list(_calls(service.url, fetches, queries))
                run = await submit(client, calls, "demo")
                expected = {lane: sum(call.job.lane == lane for call in calls) for lane in LANES}
                collected = await report.wait_with_progress(client, run.name, expected, timeout=300)
        finally:
            await client.aclose()
    rows = comparison.compare(collected.outcomes, collected.run.created_ms)
    sentences = story.tell(rows, slots)
    data = report.as_data(collected) | {"slots": slots, "seen": sentences}
    if as_json:
        print_json(data)
    elif as_csv:
        report.print_rows(collected)
    else:
        report.show(collected)
        click.echo()
        for sentence in sentences:
            click.echo(sentence)
        _plot(collected)
    _save(output, data, collected)
    say(f"\nresults saved in {output}")
    report.write_page(page, collected, sentences, machine, data)
    return report.exit_code(collected)


def _plot(collected: Collected) -> None:
    from producer import plot
    from producer.cli import tables

    out = tables.console()
    encoding = sys.stdout.encoding or "ascii"
    drawn = plot.throughput(
        plot.ends_of(collected.outcomes),
        colour=out.color_system is not None and not out.no_color,
        plain_text=not encoding.lower().startswith("utf"),
    )
    if drawn:
        click.echo()
        click.echo(drawn)


def _calls(url: str, fetches: int, queries: int) -> Iterator[Call]:
    from producer.cli.enqueue import prime_calls
    from producer.submit import Caller
    from twolane.registry import Registry

    caller = Caller(Registry.load([SHIPPED_JOBS]))
    yield from [caller.call("fetch", {"url": url})] * fetches
    for room in ("twolane", "worker", "producer"):
        for path in sorted((SOURCE / room).rglob("*.py")):
            yield caller.call("read_file", {"path": str(path)})
    yield from [caller.call("query", {"rows": 1000})] * queries
    # Powers of ten and of two: their prime counts are in the published tables.
    yield from prime_calls(caller, 100_000_000, 16, "sieve")
    yield from prime_calls(caller, 2**21, 32, "trial")


def _check_place(output: Path) -> None:
    """Find out whether there is a place to save to before the work rather than after it."""
    place = output if output.exists() else output.parent
    if not place.exists():
        raise TwolaneError(f"cannot save the results in {output}: there is no folder {place}")
    if not os.access(place, os.W_OK):
        raise TwolaneError(f"cannot save the results in {output}: {place} is not writable for you")


def _save(output: Path, data: dict[str, Any], collected: Collected) -> None:
    from producer.cli.runs import as_row

    whole = {**data, "jobs": [as_row(one) for one in collected.outcomes]}
    try:
        output.write_text(to_json(whole) + "\n", encoding="utf-8")
    except OSError as error:
        raise TwolaneError(f"cannot save the results in {output}: {error.strerror}") from None
