"""The command ``scale``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from producer.cli.output import Progress, check_place, output_options
from producer.cli.workload import JobCommand, Wanted, from_words, latency_option, refuse
from twolane.commandline import (
    broker_option,
    counted,
    jobs_option,
    option,
    print_json,
    say,
)
from twolane.errors import JobsFailed, TwolaneError, UsageError
from twolane.keys import Lane
from twolane.quantities import Duration
from twolane.registry import SHIPPED_JOBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from producer.cli.workload import Source
    from producer.sweep import Measure, Point, Window

COLUMNS: Final = (
    "round", "workers", "slots", "jobs_per_second", "jobs", "failed", "wait_p50_seconds",
    "wait_p95_seconds", "wait_p99_seconds", "run_p50_seconds", "run_p95_seconds",
    "run_p99_seconds", "busy_slots", "machine_cores", "broker_cores", "target_cores",
    "worker_cores", "lowest_backlog",
)  # fmt: skip

MOST_WORKERS: Final = 1024


class Counts(click.ParamType):  # type: ignore[type-arg]  # as Duration's in quantities
    """Worker counts: ``1,2,4`` or ``1-4,6,8``, each at least 1, in ascending order."""

    name = "counts"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        found: set[int] = set()
        for part in str(value).split(","):
            low, dash, high = part.strip().partition("-")
            try:
                least, most = int(low), int(high if dash else low)
            except ValueError:
                self.fail(f"{value!r} are no worker counts; write 1,2,4 or 1-4,6,8", param, ctx)
            if not 1 <= least <= most <= MOST_WORKERS:
                self.fail(f"{value!r}: worker counts are from 1 to {MOST_WORKERS}", param, ctx)
            found |= set(range(least, most + 1))
        return tuple(sorted(found))


@click.command(cls=JobCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="[JOB [KEY=VALUE]...]")
@option(
    "--lane",
    type=click.Choice(["io", "cpu"]),
    default=None,
    help="The lane that the job is for. Default: the job's own.",
)
@option("--workers", "counts", type=Counts(), default="1,2,3,4,6,8", metavar="N,N,…",
        help="How many workers to measure.")  # fmt: skip
@option("--rounds", type=click.IntRange(1, 100), default=3, help="How often to measure each.")
@option("--window", type=Duration(least=0.5), default="4s", metavar="TIME",
        help="How long one measurement looks.")  # fmt: skip
@option("--warm-up", type=Duration(), default="1s", metavar="TIME",
        help="Left out before it, from the first job that ends on.")  # fmt: skip
@option("--concurrency", type=click.IntRange(1, 100_000), default=20,
        help="IO jobs at once, of each worker that it starts.")  # fmt: skip
@option("--processes", type=click.IntRange(1, 1024), default=1,
        help="CPU jobs at once, of each worker that it starts.")  # fmt: skip
@latency_option
@option("--compose", is_flag=True,
        help="Scale the services of the compose file of this folder instead.")  # fmt: skip
@option("--project-name", default=None, metavar="NAME", help="With --compose: docker's option.")
@option("--manual", is_flag=True,
        help="Wait for you to start and stop workers, on any machines, on --broker.")  # fmt: skip
@option("--as-is", is_flag=True, help="Measure the workers that --broker has now, once.")
@option("--seed", type=int, default=None, help="Shuffle the rounds the same way again.")
@broker_option
@jobs_option
@output_options
def scale(
    words: tuple[str, ...], lane: Lane | None, counts: tuple[int, ...], rounds: int,
    window: float, warm_up: float, concurrency: int, processes: int, latency: float,
    compose: bool, project_name: str | None, manual: bool, as_is: bool, seed: int | None,
    broker: str | None, modules: tuple[str, ...], as_json: bool, as_csv: bool,
    report: Path | None,
) -> int:  # fmt: skip
    """Measure how the throughput grows with the workers, and say how many are worth it.

    Each count is measured with a queue that is never empty, in rounds whose order is shuffled;
    the Universal Scalability Law is fitted to what was measured. By default it starts workers on
    this machine with a private broker; a CPU worker has one process there, so that N workers are
    N processes.

    \b
    twolane scale --lane cpu --workers 1,2,3,4,6,8
    twolane scale --lane io my_job url=http://localhost:8080/ --jobs my.module --report io.html
    twolane scale --lane io --compose --workers 1,2,4
    twolane scale fetch url=http://target/ --manual --broker redis://broker:6379/0
    """
    from producer.cli.workload import Source
    from producer.sweep import Window

    check_place(report, as_json, as_csv)
    if compose + manual + as_is > 1:
        raise UsageError("give one of --compose, --manual and --as-is")
    if not (as_is or manual):
        refuse("broker", "goes with --manual or --as-is; workers of our own have a private one")
    if not compose:
        refuse("project_name", "goes with --compose")
    if as_is or manual or compose:
        for name in ("concurrency", "processes", "latency"):
            refuse(name, "is for workers of our own; these are as they are")
    wanted = _wanted(words, lane)
    looks = Window(window, warm_up)
    if rounds < 3 and not as_is:
        say(f"{rounds} of the 3 rounds that intervals need at the least; --rounds 3")
    outcome = _Outcome(as_json, as_csv, report)
    if compose:
        return _composed(wanted, lane, counts, rounds, looks, seed, project_name, modules, outcome)
    source = Source(modules)
    if as_is or manual:
        return _theirs(source, wanted, counts, rounds, looks, seed, broker, as_is, outcome)
    started = [f"--concurrency={concurrency}"], [f"--processes={processes}"]
    return _ours(source, wanted, lane, counts, rounds, looks, seed, started, latency, outcome)


class _Outcome:
    """What becomes of the points."""

    def __init__(self, as_json: bool, as_csv: bool, report: Path | None) -> None:
        self.as_json = as_json
        self.as_csv = as_csv
        self.report = report
        self.conditions: list[str] = []
        self.cut: BaseException | None = None

    async def swept(
        self, measure: Measure, counts: Sequence[int], rounds: int, seed: int | None
    ) -> list[Point]:
        """The measurements of a sweep; where it is cut off, those that it had made by then."""
        import asyncio

        from redis.exceptions import RedisError

        from producer.sweep import sweep

        points: list[Point] = []
        draw, progress = random.Random(seed), Progress()
        try:
            await sweep(measure, counts, rounds, draw, progress, points.append)
        except (asyncio.CancelledError, RedisError, OSError, TwolaneError) as error:
            progress(1, 1, "")
            if not points:
                raise
            self.cut = error
            self.conditions.append(f"cut off after {len(points)} of {rounds * len(counts)}")
        return points

    def finish(
        self, points: list[Point], job: str, lane: Lane, machine: Any, is_sweep: bool = True
    ) -> int:
        import msgspec

        from producer import scaling
        from producer.cli.output import print_csv, write_report

        found = scaling.fitted(points) if is_sweep else None
        seen = scaling.tell(found, points, lane) if is_sweep else []
        data = {
            "kind": "scale", "job": job, "lane": lane, "conditions": self.conditions,
            "environment": msgspec.to_builtins(machine),
            "points": msgspec.to_builtins(points), "fit": scaling.as_data(found), "seen": seen,
        }  # fmt: skip
        if self.as_json:
            print_json(data)
        elif self.as_csv:
            print_csv(COLUMNS, [_cells(one) for one in points])
        else:
            _show(points, job, lane, seen, self.conditions)
        if self.report is not None:
            from producer.report import scaling as page

            write_report(
                self.report,
                page.page(points, found, job, lane, seen, self.conditions, machine, data),
            )
        if self.cut is not None:
            raise self.cut
        return JobsFailed.exit_code if any(one.failed for one in points) else 0


def _wanted(words: Sequence[str], lane: Lane | None) -> Wanted | None:
    found = from_words(words, lane)
    if len(found) > 1:
        raise UsageError(f"one job at a time: {found[0].job}, or {found[1].job}")
    if not found and lane is None:
        raise UsageError("say which lane, or which job: twolane scale --lane cpu")
    return found[0] if found else None


def _ours(
    source: Source, wanted: Wanted | None, lane: Lane | None, counts: Sequence[int], rounds: int,
    window: Window, seed: int | None, started: tuple[list[str], list[str]], latency: float,
    outcome: _Outcome,
) -> int:  # fmt: skip
    """Workers of our own, on this machine."""
    from producer.cli.session import run
    from producer.cli.workload import default, service

    checked = source.call(wanted) if wanted else None

    async def main() -> int:
        from producer import environment
        from producer.crews import Local, private_broker
        from producer.models.usage import trees

        machine = environment.look()
        async with (
            service(checked is None and lane == "io", latency) as served,
            private_broker() as (server, client),
        ):
            machine.broker = await environment.broker_of(client)
            call = checked or source.call(default(lane or "cpu", served.url if served else ""))
            mine = call.job.lane
            options = started[0] if mine == "io" else started[1]
            said = options[0].removeprefix("--").replace("=", " ")
            outcome.conditions.append(f"workers on this machine with {said} each")
            if served:
                outcome.conditions.append(f"a web service that takes {latency * 1000:g} ms")
            say(_plan(call.job.name, mine, counts, rounds, f"{said} each"))
            common = ["--log-level=error", *(f"--jobs={name}" for name in source.modules)]
            others = {"target": trees([served.pid])} if served else {}
            crew = Local(server, client, mine, [*options, *common], others)
            points = await outcome.swept(crew.measure(call, window), counts, rounds, seed)
            # Within: what cut it off may be the loss of that broker, which is told as such.
            return outcome.finish(points, call.job.name, mine, machine)

    return run(main)


def _theirs(
    source: Source, wanted: Wanted | None, counts: Sequence[int], rounds: int, window: Window,
    seed: int | None, broker: str | None, as_is: bool, outcome: _Outcome,
) -> int:  # fmt: skip
    """Workers that somebody else starts, on a broker that is there."""
    from producer.cli.session import with_broker

    if wanted is None:
        raise UsageError("name the job that those workers know: fetch url=http://…")
    call = source.call(wanted)

    async def work(client: Redis) -> int:
        from producer import environment
        from producer.crews import Manual
        from producer.sweep import measure_now

        machine = environment.look()
        machine.broker = await environment.broker_of(client)
        if as_is:
            points = [await measure_now(client, call, window)]
            outcome.conditions.append("workers as they were found")
        else:
            outcome.conditions.append("workers started and stopped by hand")
            crew = Manual(client, call.job.lane, say)
            points = await outcome.swept(crew.measure(call, window), counts, rounds, seed)
        return outcome.finish(points, call.job.name, call.job.lane, machine, not as_is)

    return with_broker(broker, work)


def _composed(
    wanted: Wanted | None, lane: Lane | None, counts: Sequence[int], rounds: int, window: Window,
    seed: int | None, project: str | None, modules: Sequence[str], outcome: _Outcome,
) -> int:  # fmt: skip
    """The compose file's workers; the job is checked in there, where its module is."""
    from producer.cli.session import run
    from producer.cli.workload import default

    if lane is None:
        raise UsageError("--compose needs to know which service to scale: give --lane")
    job = wanted or default(lane, "http://target:8080/")

    async def main() -> int:
        from producer import environment
        from producer.composed import Compose

        words = [f"--jobs={one}" for one in modules if one != SHIPPED_JOBS]
        words += [job.job, *(f"{key}={value}" for key, value in job.arguments.items())]
        crew = Compose(lane, words, [f"--project-name={project}"] if project else [])
        async with crew:
            say(_plan(job.job, lane, counts, rounds, str(crew.found)))
            points = await outcome.swept(crew.measure(window), counts, rounds, seed)
            assert crew.found is not None
            say(f"putting {crew.found.name} back to {crew.found.containers} …")
        outcome.conditions += [str(crew.found), "measured by a producer container beside them"]
        return outcome.finish(points, job.job, lane, crew.machine or environment.look())

    return run(main)


def _plan(job: str, lane: str, counts: Sequence[int], rounds: int, each: str) -> str:
    those = ", ".join(map(str, counts))
    noun = "worker" if list(counts) == [1] else "workers"
    return f"measuring {job} with {those} {lane} {noun} ({each}), {counted(rounds, 'round')} …"


def _cells(one: Point) -> list[Any]:
    others = one.busy.others
    return [
        one.round_ + 1, one.workers, one.slots, one.throughput, one.jobs, one.failed,
        one.wait.p50, one.wait.p95, one.wait.p99, one.run.p50, one.run.p95, one.run.p99,
        one.busy_slots, one.busy.machine, one.busy.broker, others.get("target"),
        others.get("workers"), one.lowest_backlog,
    ]  # fmt: skip


def _show(
    points: list[Point], job: str, lane: Lane, seen: list[str], conditions: list[str]
) -> None:
    from producer import scaling
    from producer.cli import tables
    from twolane.commandline import plain

    out = tables.console()
    rounds = 1 + max(point.round_ for point in points)
    out.print(
        plain(f"{job} ({lane} lane), {counted(rounds, 'round')}; {'; '.join(conditions)}"),
        style="bold",
    )
    found = scaling.lines(points)
    others = [name for name in ("target", "workers") if name in found[0].others]
    columns = (
        "workers", "slots", "jobs/s", "spread", "speed-up", "efficiency", "slots busy",
        "wait p50/p95", "run p50/p95/p99", "machine", "Valkey", *others,
    )  # fmt: skip
    rows = [
        (
            one.workers, one.slots, tables.number(one.throughput),
            f"{tables.number(one.lowest)}–{tables.number(one.highest)}", f"{one.speedup:.2f}×",
            f"{one.efficiency:.2f}", f"{one.busy_slots / max(one.slots, 1):.0%}",
            f"{tables.seconds(one.wait_p50)} / {tables.seconds(one.wait_p95)}",
            f"{tables.seconds(one.run_p50)} / {tables.seconds(one.run_p95)} / "
            f"{tables.seconds(one.run_p99)}",
            f"{one.machine:.2f}", f"{one.broker:.2f}",
            *(f"{one.others[name]:.2f}" for name in others),
        )
        for one in found
    ]  # fmt: skip
    out.print(tables.table(columns, rows, right=0))
    cores = f"{points[0].busy.cores} cores, {points[0].busy.usable_cores} usable"
    out.print(LEGEND.format(cores=cores), style="dim")
    for sentence in seen:
        out.print(plain(sentence))


LEGEND: Final = (
    "jobs/s: median of the rounds, warm-up and drain left out · wait: in a backlog that is never "
    "empty · machine, Valkey and the others: cores in use ({cores})\n"
)
