"""The command ``load``."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from producer.cli.output import Progress, check_place, output_options
from producer.cli.workload import (
    JobCommand,
    Wanted,
    from_option,
    from_words,
    latency_option,
    refuse,
)
from twolane.commandline import broker_option, jobs_option, option, print_json, say
from twolane.errors import UsageError
from twolane.keys import Lane
from twolane.quantities import DURATION, Duration, Number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import psutil
    from redis.asyncio import Redis

    from producer.cli.workload import Source
    from producer.open_load import Load, Loaded
    from producer.submit import Call

COLUMNS: Final = (
    "second", "sent", "completed", "wait_p95_seconds", "latency_p50_seconds",
    "latency_p95_seconds",
)  # fmt: skip


@click.command(cls=JobCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="[JOB [KEY=VALUE]...]")
@option("--rate", type=Number(0, 1_000_000, min_open=True), required=True,
        help="Jobs a second.")  # fmt: skip
@option("--for", "seconds", type=Duration(least=1), default="60s", metavar="TIME", help="How long.")
@option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson",
        help="At random, as independent people come, or at even gaps.")  # fmt: skip
@option("--warm-up", type=DURATION, default="1s", metavar="TIME",
        help="How much of the beginning does not count.")  # fmt: skip
@option(
    "--lane",
    type=click.Choice(["io", "cpu"]),
    default=None,
    help="The lane that the job is for. Default: the job's own.",
)
@option("--job", "job_text", default=None, metavar="JOB [KEY=VALUE]...", help="The job to send.")
@option("--workers", type=click.IntRange(1, 256), default=None,
        help="Start so many on a private broker. Default: those that --broker has.")  # fmt: skip
@option("--concurrency", type=click.IntRange(1, 100_000), default=100,
        help="With --workers: IO jobs at once, of each.")  # fmt: skip
@option("--processes", type=click.IntRange(1, 1024), default=1,
        help="With --workers: CPU jobs at once, of each.")  # fmt: skip
@latency_option
@option("--p99", type=DURATION, default=None, metavar="TIME",
        help="Spread that latency: 1 answer in 100 takes longer than this, as 200ms.")  # fmt: skip
@option("--seed", type=int, default=None, help="Draw the same arrivals again.")
@broker_option
@jobs_option
@output_options
def load(
    words: tuple[str, ...], rate: float, seconds: float, arrivals: str, warm_up: float,
    lane: Lane | None, job_text: str | None, workers: int | None, concurrency: int,
    processes: int, latency: float, p99: float | None, seed: int | None, broker: str | None,
    modules: tuple[str, ...], as_json: bool, as_csv: bool, report: Path | None,
) -> int:  # fmt: skip
    """Send jobs at a rate, whatever becomes of them, and measure how long they take.

    Times are counted from when a job was meant to be sent, so that no stall hides itself.

    \b
    twolane load --rate 150 --for 30s --lane io --workers 1 --concurrency 10
    twolane load my_job n=3 --rate 20 --for 60s --jobs my.module
    twolane load fetch url=http://localhost:8080/ --rate 500 --arrivals constant
    """
    from producer.cli.workload import Source
    from producer.open_load import Load

    check_place(report, as_json, as_csv)
    if warm_up >= seconds:
        raise UsageError("--warm-up leaves nothing of --for")
    if workers is not None:
        refuse("broker", "is for workers that are there; those of --workers have a private one")
    else:
        for name in ("concurrency", "processes", "latency", "p99"):
            refuse(name, "is for workers of our own: --workers 1")
    wanted = one_job(words, job_text, lane)
    if wanted is None and workers is None:
        raise UsageError(
            "name the job that those workers know (fetch url=http://…), or start some: --workers 1"
        )
    source = Source(modules)
    plan = Load(rate, seconds, "constant" if arrivals == "constant" else "poisson", warm_up)
    draw = random.Random(seed)
    say(f"sending {rate:g} jobs/s for {seconds:g} s ({arrivals} arrivals) …")

    async def measured(
        client: Redis, call: Call, plan: Load, draw: random.Random,
        watched: Mapping[str, Sequence[psutil.Process]], said: str,
    ) -> int:  # fmt: skip
        from producer import environment, sizing
        from producer.open_load import apply

        machine = environment.look()
        machine.broker = await environment.broker_of(client)
        progress = Progress()
        loaded, outcomes, waits = await apply(client, call, plan, draw, watched, progress)
        progress(1, 1, "")
        return _finish(
            loaded,
            sizing.check(loaded),
            call,
            said,
            machine,
            outcomes,
            waits,
            as_json,
            as_csv,
            report,
        )

    if workers is None:
        assert wanted is not None
        from producer.cli.session import with_broker

        call = source.call(wanted)

        async def theirs(client: Redis) -> int:
            return await measured(client, call, plan, draw, {}, "workers as they were found")

        return with_broker(broker, theirs)

    async def ours() -> int:
        started = own_workers(source, wanted, lane, workers, concurrency, processes, latency, p99)
        async with started as (client, call, watched, said):
            return await measured(client, call, plan, draw, watched, said)

    from producer.cli.session import run

    return run(ours)


def one_job(words: Sequence[str], text: str | None, lane: Lane | None) -> Wanted | None:
    """The job of the words or of --job; None where a lane is given alone."""
    found = [*from_words(words, lane), *([from_option(text, lane)] if text else [])]
    if len(found) > 1:
        raise UsageError(f"one job at a time: {found[0].job}, or {found[1].job}")
    if not found and lane is None:
        raise UsageError("say which lane, or which job: --lane io, or --job my_job n=3")
    return found[0] if found else None


@contextlib.asynccontextmanager
async def own_workers(
    source: Source, wanted: Wanted | None, lane: Lane | None, workers: int, concurrency: int,
    processes: int, latency: float, p99: float | None,
) -> AsyncIterator[tuple[Redis, Call, Mapping[str, Sequence[psutil.Process]], str]]:  # fmt: skip
    """Workers on a private broker: its client, the call, what to watch, and what they are."""
    import psutil

    from producer.cli.workload import default, service
    from producer.crews import private_broker
    from producer.load_meter import OURSELVES
    from producer.local import LocalFleet
    from producer.models.usage import trees

    checked = source.call(wanted) if wanted else None
    async with (
        service(checked is None and lane == "io", latency, p99) as served,
        private_broker() as (server, client),
    ):
        call = checked or source.call(default(lane or "cpu", served.url if served else ""))
        mine = call.job.lane
        slots = f"concurrency={concurrency}" if mine == "io" else f"processes={processes}"
        options = [
            f"--{slots}", "--log-level=error", *(f"--jobs={name}" for name in source.modules)
        ]  # fmt: skip
        async with LocalFleet(server.url, options, grace_seconds=2) as fleet:
            for _ in range(workers):
                await fleet.start(mine)
            await fleet.wait_ready(client)
            watched = {
                "workers": trees(one.process.pid for one in fleet.children),
                OURSELVES: [psutil.Process()],
                **({"target": trees([served.pid])} if served else {}),
            }
            each = slots.replace("=", " ")
            said = f"{workers} {mine} worker{'s' if workers != 1 else ''} ({each} each)"
            if served:
                spread = f", p99 {p99 * 1000:g} ms" if p99 else ""
                said += f", a web service that takes {latency * 1000:g} ms{spread}"
            yield client, call, watched, said


def _finish(
    loaded: Loaded, check: Any, call: Call, said: str, machine: Any, outcomes: list[Any],
    waits: list[float], as_json: bool, as_csv: bool, report: Path | None,
) -> int:  # fmt: skip
    import msgspec

    from producer import sizing
    from producer.cli.output import print_csv, write_report

    seen = sizing.tell_load(loaded, check)
    data = {
        "kind": "load", "job": call.job.name, "lane": call.job.lane, "conditions": [said],
        "environment": msgspec.to_builtins(machine), "load": msgspec.to_builtins(loaded),
        "prediction": msgspec.to_builtins(check), "seen": seen,
    }  # fmt: skip
    if as_json:
        print_json(data)
    elif as_csv:
        rows = [
            [number, one.sent, one.completed, one.wait_p95, one.latency_p50, one.latency_p95]
            for number, one in enumerate(loaded.per_second)
        ]
        print_csv(COLUMNS, rows)
    else:
        _show(loaded, call, said, seen)
    if report is not None:
        from producer.report import load as page

        write_report(report, page.page(loaded, check, outcomes, waits, seen, machine, data))
    return 4 if loaded.failed else 0


def _show(loaded: Loaded, call: Call, said: str, seen: list[str]) -> None:
    from producer.cli import tables
    from twolane.commandline import plain

    out = tables.console()
    out.print(plain(f"{call.job.name} ({call.job.lane} lane), {said}"), style="bold")
    columns = ("", "p50", "p95", "p99", "mean")
    mean_latency = loaded.wait_mean + loaded.run_mean
    rows = [
        (
            name, tables.seconds(one.p50), tables.seconds(one.p95), tables.seconds(one.p99),
            "" if mean is None else tables.seconds(mean),
        )
        for name, one, mean in (
            ("wait (intended send to start)", loaded.wait, loaded.wait_mean),
            ("run", loaded.run, loaded.run_mean),
            ("latency (intended send to end)", loaded.latency, mean_latency),
            ("sender late by", loaded.late, None),
        )
    ]  # fmt: skip
    out.print(tables.table(columns, rows, right=1))
    out.print()
    for sentence in seen:
        out.print(plain(sentence))
