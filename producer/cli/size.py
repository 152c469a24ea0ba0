"""The command ``size``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import click

from producer.cli.workload import JobCommand, latency_option, refuse
from twolane.commandline import (
    broker_option,
    jobs_option,
    json_option,
    option,
    plain,
    print_json,
    say,
)
from twolane.errors import JobsFailed, UsageError
from twolane.keys import Lane
from twolane.quantities import DURATION, Duration, Number

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from producer.cli.workload import Source, Wanted
    from producer.sizing import Answer, Service

# One worker's slots are kept this busy while its run times are measured: near what is asked for.
SAMPLE_UTILISATION: Final = 0.7
PROBES: Final = 5
COLUMNS: Final = (
    "rate", "slo_seconds", "quantile", "workers", "slots", "slots_per_worker", "utilisation",
    "chance_of_waiting", "wait_mean_seconds", "wait_quantile_seconds", "mean_run_seconds", "scv",
)  # fmt: skip


@click.command(cls=JobCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="[JOB [KEY=VALUE]...]")
@option("--rate", type=Number(0, 1_000_000, min_open=True), required=True,
        help="Jobs that arrive a second.")  # fmt: skip
@option("--slo", type=DURATION, required=True, metavar="TIME",
        help="How long a job may wait for its start.")  # fmt: skip
@option("--quantile", type=Number(0, 1, min_open=True, max_open=True), default=0.95,
        help="The share of the jobs for which that must hold.")  # fmt: skip
@option("--utilisation", type=Number(0, 1, min_open=True), default=0.8,
        help="The most of its time that a slot is to be busy on average.")  # fmt: skip
@option(
    "--lane",
    type=click.Choice(["io", "cpu"]),
    default=None,
    help="The lane that the job is for. Default: the job's own.",
)
@option("--job", "job_text", default=None, metavar="JOB [KEY=VALUE]...", help="The job.")
@option("--slots", type=click.IntRange(1, 100_000), default=None,
        help="Jobs at once of one worker. Default: 100 (io), the usable cores (cpu).")  # fmt: skip
@option("--run", "run_name", default=None, metavar="NAME",
        help="Take the run times from this run of --broker instead of measuring.")  # fmt: skip
@option("--mean-run", type=Duration(least=1e-6), default=None, metavar="TIME",
        help="The mean run time, instead of measuring.")  # fmt: skip
@option("--scv", type=Number(0), default=1.0,
        help="With --mean-run: variance over mean²; 1: exponential, 0: constant.")  # fmt: skip
@option("--measure", "seconds", type=Duration(least=1), default="5s", metavar="TIME",
        help="How long to measure the run times.")  # fmt: skip
@latency_option
@option("--p99", type=DURATION, default=None, metavar="TIME",
        help="Spread that latency: 1 answer in 100 takes longer than this, as 200ms.")  # fmt: skip
@option("--seed", type=int, default=None, help="Draw the same arrivals again.")
@broker_option
@jobs_option
@option("--csv", "as_csv", is_flag=True, help="Print the answer as CSV.")
@json_option
def size(
    words: tuple[str, ...], rate: float, slo: float, quantile: float, utilisation: float,
    lane: Lane | None, job_text: str | None, slots: int | None, run_name: str | None,
    mean_run: float | None, scv: float, seconds: float, latency: float, p99: float | None,
    seed: int | None, broker: str | None, modules: tuple[str, ...], as_csv: bool, as_json: bool,
) -> int:  # fmt: skip
    """How many workers an arrival rate needs.

    From the job's run times, which it measures: Little's law with a reserve, and the waiting time
    of M/G/c. `twolane load` measures whether that holds.

    \b
    twolane size --rate 200 --slo 2s --lane io
    twolane size --rate 20 --slo 500ms --job my_job n=3 --jobs my.module
    twolane size --rate 200 --slo 100ms --lane io --mean-run 50ms --scv 0.2 --slots 10
    """
    from producer import sizing
    from producer.cli.load import one_job
    from producer.cli.output import check_place, print_csv
    from producer.cli.workload import Source
    from twolane.cores import usable_cores

    check_place(None, as_json, as_csv)
    if run_name is None:
        refuse("broker", "goes with --run: what is measured has a private one")
    if mean_run is None:
        refuse("scv", "goes with --mean-run")
    wanted = one_job(words, job_text, lane)
    source = Source(modules)
    call = source.call(wanted) if wanted else None
    mine: Lane = call.job.lane if call else lane or "cpu"
    each = slots or (100 if mine == "io" else usable_cores())
    if mean_run is not None:
        if run_name is not None:
            raise UsageError("give --mean-run or --run, not both")
        service = sizing.Service(mean_run, scv, 0, "given")
    elif run_name is not None:
        service = _recorded(broker, run_name, call.job.name if call else None, mine)
    else:
        service = _measured(source, wanted, mine, each, rate, seconds, latency, p99, seed)
    try:
        one = sizing.answer(rate, service, slo, quantile, each, utilisation)
    except ValueError as error:
        raise UsageError(str(error)) from None
    seen = sizing.tell(one, service, mine)
    if as_json:
        import msgspec

        data = {"kind": "size", "lane": mine, "service": msgspec.to_builtins(service)}
        print_json({**data, "answer": msgspec.to_builtins(one), "seen": seen})
    elif as_csv:
        print_csv(COLUMNS, [_cells(one, service)])
    else:
        _show(one, service, seen)
    return 0


def _measured(
    source: Source, wanted: Wanted | None, lane: Lane, slots: int, rate: float, seconds: float,
    latency: float, p99: float | None, seed: int | None,
) -> Service:  # fmt: skip
    """The run times on one worker of our own, at a load like the one that is asked for."""
    from producer.cli.load import own_workers
    from producer.cli.session import run

    async def main() -> Service:
        from producer import sizing
        from producer.cli.output import Progress
        from producer.collect import follow
        from producer.open_load import Load, apply
        from producer.submit import submit
        from producer.sweep import shortened

        started = own_workers(source, wanted, lane, 1, slots, slots, latency, p99)
        async with started as (client, call, watched, said):
            say(f"measuring run times of {call.job.name} for {seconds:g} s: {said} …")
            probe = await submit(client, [call] * PROBES, "size")
            found = (await follow(client, probe.name, timeout=600)).outcomes
            times = [one.run_seconds for one in found if one.success]
            if not times:
                error = next((one.error for one in found if one.error), None)
                what = shortened(error) if error else "?"
                raise JobsFailed(f"no job of {call.job.name!r} succeeded: {what}")
            bearable = SAMPLE_UTILISATION * slots / max(sum(times) / len(times), 1e-6)
            load = Load(max(min(rate, bearable), 2 / seconds), seconds, warm_up_seconds=0.0)
            progress = Progress()
            draw = random.Random(seed)
            loaded, *_ = await apply(client, call, load, draw, watched, progress)
            progress(1, 1, "")
        return sizing.measured(loaded, load.rate)

    return run(main)


def _recorded(broker: str | None, name: str, job: str | None, lane: Lane) -> Service:
    """The run times of a run that was made before."""
    from statistics import fmean, variance

    from producer.cli.session import with_broker
    from producer.collect import collect
    from producer.sizing import Service

    async def work(client: Redis) -> Any:
        return (await collect(client, name)).outcomes

    times = [
        one.run_seconds
        for one in with_broker(broker, work)
        if one.success and one.lane == lane and (job is None or one.function == job)
    ]
    if len(times) < 2:
        what = f"jobs of {job!r}" if job else f"{lane} jobs"
        raise UsageError(f"run {name!r} has {len(times)} {what} that succeeded; two are the least")
    mean = fmean(times)
    return Service(mean, variance(times) / mean**2, len(times), f"run {name}")


def _cells(one: Answer, service: Service) -> list[Any]:
    return [
        one.rate, one.slo_seconds, one.quantile, one.workers, one.slots, one.slots_per_worker,
        one.utilisation, one.chance, one.wait_mean, one.wait_quantile, service.mean_run,
        service.scv,
    ]  # fmt: skip


def _show(one: Answer, service: Service, seen: list[str]) -> None:
    from producer.cli import tables

    out = tables.console()
    jobs = f"{service.jobs:,} jobs, " if service.jobs else ""
    out.print(
        plain(
            f"run time: mean {tables.seconds(service.mean_run)}, squared coefficient of variation "
            f"{service.scv:.2g} ({jobs}{service.source})"
        ),
        style="dim",
    )
    columns = (
        "workers", "slots", "busy", "jobs that wait", "mean wait", f"{one.quantile:.0%} wait less",
    )  # fmt: skip
    row = (
        one.workers, one.slots, f"{one.utilisation:.0%}", f"{one.chance:.1%}",
        tables.seconds(one.wait_mean), tables.seconds(one.wait_quantile),
    )  # fmt: skip
    out.print(tables.table(columns, [row], right=0))
    out.print()
    for sentence in seen:
        out.print(plain(sentence))
