"""The commands ``runs``, ``runs show``, ``runs compare`` and ``runs collect``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import click

from producer.cli.output import check_place, output_options
from twolane.commandline import (
    broker_option,
    counted,
    json_option,
    option,
    plain,
    print_json,
    say,
    to_json,
)
from twolane.keys import LANES, Lane
from twolane.quantities import DURATION

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from twolane.outcome import Outcome
    from twolane.runs import Run

FIELDS: Final = (
    "id", "job", "lane", "status", "try", "worker", "started", "wait_seconds", "run_seconds",
    "cpu_seconds", "hold_seconds", "memory_bytes", "args", "result", "error",
)  # fmt: skip
# How a text begins that a spreadsheet would run; the last four are full-width forms.
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class Common(NamedTuple):
    """Options that may stand before the subcommand too: ``twolane runs --json show …``."""

    broker: str | None
    as_json: bool


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@option("--limit", type=click.IntRange(1, 10_000), default=20, help="How many, the newest first.")
@broker_option
@json_option
@click.pass_context
def runs(ctx: click.Context, limit: int, broker: str | None, as_json: bool) -> None:
    """List, show, compare and collect runs.

    \b
    twolane runs
    twolane runs show primes-k3f9x --wait
    twolane runs collect primes-k3f9x --format csv > results.csv
    twolane runs compare before after --fail-if "throughput < 0.95"
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = Common(broker, as_json)
        return
    _list(limit, broker, as_json)


@runs.command("list")
@option("--limit", type=click.IntRange(1, 10_000), default=20, help="How many, the newest first.")
@broker_option
@json_option
@click.pass_obj
def list_(common: Common, limit: int, broker: str | None, as_json: bool) -> None:
    """The runs, the newest first, as `twolane runs` alone lists them.

    \b
    twolane runs list --limit 5
    twolane runs list --json
    """
    _list(limit, broker or common.broker, as_json or common.as_json)


def _list(limit: int, broker: str | None, as_json: bool) -> None:
    import msgspec

    from producer.cli import tables
    from producer.cli.session import with_broker
    from twolane.runs import latest

    async def work(client: Redis) -> list[Run]:
        return await latest(client, limit)

    found = with_broker(broker, work)
    if as_json:
        print_json([msgspec.to_builtins(run) for run in found])
        return
    if not found:
        say("no runs yet; make one: twolane enqueue primes --wait")
        return
    columns = ("run", "created", "state", "jobs", "done", "failed", "cancelled", "to go")
    rows = [
        (
            run.name, tables.ago(run.created_ms), state(run), f"{run.total:,}", f"{run.done:,}",
            f"{run.failed:,}", f"{run.cancelled:,}", f"{run.waiting:,}",
        )
        for run in found
    ]  # fmt: skip
    tables.console().print(tables.table(columns, rows, right=3))


def state(run: Run) -> str:
    if not run.sealed:
        return "enqueuing"
    return "over" if run.is_over else "going on"


@runs.command()
@click.argument("name")
@option("--wait", is_flag=True, help="Wait until all of its jobs have settled.")
@option("--timeout", type=DURATION, default=None, metavar="TIME",
        help="With --wait: how long, as 30s or 5m.")  # fmt: skip
@broker_option
@output_options
@click.pass_obj
def show(
    common: Common, name: str, wait: bool, timeout: float | None, broker: str | None,
    as_json: bool, as_csv: bool, report: Path | None,
) -> int:  # fmt: skip
    """The comparison of a run: what its jobs did, lane by lane.

    \b
    twolane runs show primes-k3f9x
    twolane runs show primes-k3f9x --wait --report primes.html
    """
    from producer.cli import report as reporting
    from producer.cli.session import with_broker
    from producer.collect import collect
    from twolane.runs import get

    as_json = as_json or common.as_json
    check_place(report, as_json, as_csv)

    async def work(client: Redis) -> int:
        if wait:
            run = await get(client, name)
            # Which lanes it uses is known from what has come; its size bounds either.
            expected: dict[Lane, int] = dict.fromkeys(LANES, 0 if run.is_over else run.total)
            collected = await reporting.wait_with_progress(client, name, expected, timeout)
        else:
            collected = await collect(client, name)
        if as_csv:
            reporting.print_rows(collected)
            code = reporting.exit_code(collected)
        else:
            code = reporting.finish(collected, as_json)
        if report is not None:
            # The machine that a run was made on is not known any more; its workers are.
            reporting.write_page(report, collected, [], None, reporting.as_data(collected))
        if collected.run.waiting and not as_json:
            say(f"{counted(collected.run.waiting, 'job')} to go; wait for the end with --wait")
        return code

    return with_broker(broker or common.broker, work)


@runs.command()
@click.argument("first")
@click.argument("second")
@option(
    "--fail-if", "conditions", multiple=True, metavar="CONDITION",
    help="Exit with 4 where it holds for the ratios, second run over first; several allowed. "
    "[SCOPE:]MEASURE < NUMBER, also with <=, > and >=: 'throughput < 0.95', 'io:wait.p95 > 1.2'.",
)  # fmt: skip
@option("--sure", is_flag=True, help="With --fail-if: only where the whole interval is beyond.")
@broker_option
@option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
@json_option
@click.pass_obj
def compare(
    common: Common, first: str, second: str, conditions: tuple[str, ...], sure: bool,
    broker: str | None, as_csv: bool, as_json: bool,
) -> int:  # fmt: skip
    """Two runs side by side, with intervals.

    Ratios are the second run's figure over the first's, of the jobs that succeeded; `failed` is the
    share of those that did not. The intervals are of what varied within the two runs; how much one
    run differs from the next they cannot know.

    \b
    twolane runs compare before after
    twolane runs compare before after --fail-if "throughput < 0.95" --fail-if "failed > 1"
    twolane runs compare before after --fail-if "io:wait.p95 > 1.2" --fail-if "fetch:run.p50 > 1.1"
    """
    from producer import versus
    from producer.cli.session import with_broker
    from producer.collect import collect as collect_run

    as_json = as_json or common.as_json
    check_place(None, as_json, as_csv)
    wanted = [versus.Condition.parse(one) for one in conditions]

    async def work(client: Redis) -> versus.Versus:
        return versus.compare(await collect_run(client, first), await collect_run(client, second))

    found = with_broker(broker or common.broker, work)
    verdicts = [one.judge(found, sure) for one in wanted]
    _show_versus(found, verdicts, as_json, as_csv)
    return 4 if any(one.fails for one in verdicts) else 0


def _show_versus(found: Any, verdicts: list[Any], as_json: bool, as_csv: bool) -> None:
    import msgspec

    from producer.cli import tables
    from producer.cli.output import print_csv
    from producer.versus import tell

    seen = tell(found)
    if as_json:
        judged = msgspec.to_builtins(verdicts)
        print_json({**msgspec.to_builtins(found), "seen": seen, "conditions": judged})
    elif as_csv:
        print_csv(
            ("scope", "measure", "unit", found.first, found.second, "ratio", "low", "high"),
            [
                [
                    one.scope, one.measure, one.unit, one.first, one.second,
                    one.ratio.value if one.ratio else None, one.ratio.low if one.ratio else None,
                    one.ratio.high if one.ratio else None,
                ]
                for one in found.lines
            ],
        )  # fmt: skip
    else:
        columns = ("jobs", "measure", found.first, found.second, "ratio", "95 % interval")
        rows = [(one.scope, one.measure, *_versus_cells(one)) for one in found.lines]
        out = tables.console()
        out.print(tables.table(columns, rows, right=2, keys=2))
        out.print("ratio: second over first; ~ within the noise of the two runs", style="dim")
        for sentence in seen:
            out.print(plain(sentence))
    if as_csv:
        for sentence in seen:
            say(sentence)
    for one in verdicts:
        say(one.text)


def _versus_cells(one: Any) -> tuple[str, ...]:
    from producer.cli import tables

    shown = {"s": tables.seconds, "%": tables.percent}.get(one.unit, tables.number)
    if one.ratio is None:
        return shown(one.first), shown(one.second), "–", "–"
    interval = "–"
    if one.ratio.low is not None:
        interval = f"{one.ratio.low:.3f}–{one.ratio.high:.3f}"
    mark = "~" if one.ratio.is_noise else ""
    return shown(one.first), shown(one.second), f"{mark}{one.ratio.value:.3f}×", interval


@runs.command()
@click.argument("name")
@option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", help="How to print."
)
@option("--output", type=click.Path(path_type=Path, dir_okay=False), default=None, metavar="FILE",
        help="Where to print to. Default: standard output.")  # fmt: skip
@broker_option
@click.pass_obj
def collect(common: Common, name: str, form: str, output: Path | None, broker: str | None) -> None:
    """A run's results, one a line.

    \b
    twolane runs collect primes-k3f9x > results.jsonl
    twolane runs collect primes-k3f9x --format csv --output results.csv
    """
    from producer.cli.session import with_broker
    from producer.collect import collect as collect_run

    async def work(client: Redis) -> list[Outcome]:
        return (await collect_run(client, name)).outcomes

    outcomes = with_broker(broker or common.broker, work)
    if output is None:
        write(outcomes, form, sys.stdout)
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as stream:
            write(outcomes, form, stream)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from None
    say(f"{counted(len(outcomes), 'result')} in {output}")


def write(outcomes: Iterable[Outcome], form: str, stream: IO[str]) -> None:
    """Print outcomes, one a line, as JSON objects or as comma-separated values with a head."""
    if form == "jsonl":
        for one in outcomes:
            stream.write(to_json(as_row(one)) + "\n")
        return
    # A file gets the texts as they are, a terminal nothing that it would act on.
    shown = plain if stream.isatty() else str
    writer = csv.writer(stream)
    writer.writerow(FIELDS)
    for one in outcomes:
        row = as_row(one)
        writer.writerow([shown(_cell(row[field])) for field in FIELDS])


def as_row(one: Outcome) -> dict[str, Any]:
    status = "done" if one.success else "cancelled" if one.cancelled else "failed"
    error = None if one.error is None else {"type": one.error.type, "message": one.error.message}
    return {
        "id": one.id,
        "job": one.function,
        "lane": one.lane,
        "status": status,
        "try": one.try_,
        "worker": one.worker,
        "started": one.started_ms / 1000,
        "wait_seconds": one.wait_ms / 1000,
        "run_seconds": one.run_seconds,
        "cpu_seconds": one.cpu_seconds,
        "hold_seconds": one.hold_seconds,
        "memory_bytes": one.memory_bytes,
        "args": _arguments(one),
        "result": one.result if one.success else None,
        "error": error,
    }


def _arguments(one: Outcome) -> Any:
    """Arguments by name, those without one under ""; another client may have sent anything."""
    if not one.args:
        return one.kwargs
    return {"": one.args, **(one.kwargs if isinstance(one.kwargs, dict) else {})}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else to_json(value)
    # A spreadsheet runs what begins like a formula; a leading quote makes it text (OWASP, "CSV
    # Injection"). A negative number is none.
    if text[:1] in FORMULA and not isinstance(value, int | float):
        return "'" + text
    return text
