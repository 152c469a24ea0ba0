"""The command line of `scripts/bench`."""

from __future__ import annotations

import datetime as dt
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import contestants, docs, environments, machine, processes, tables, workloads
from benchmarks import report as reports
from benchmarks.contestants import Contestant
from benchmarks.jobs import loops_per_millisecond
from benchmarks.measure import Bench
from benchmarks.report import Report, Sample, Setup
from benchmarks.server import Server
from benchmarks.workloads import Profile, Workload

Pairs = list[tuple[Workload, list[Contestant]]]


class Names(click.ParamType[tuple[str, ...]]):
    """Names from a list, separated by commas."""

    name = "names"

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        names = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        for name in names:
            if name not in self._known:
                self.fail(f"{name!r} is none of {', '.join(self._known)}", param, ctx)
        return names


# fmt: off
@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("profile", type=click.Choice(list(workloads.PROFILES)), default="quick")
@click.option(
    "--only", type=Names(workloads.ALL), metavar="WORKLOAD,…",
    help=f"Of {', '.join(workloads.ALL)}.",
)
@click.option(
    "--contestants", "who", type=Names(contestants.ALL), metavar="NAME,…",
    help=f"Of {', '.join(contestants.ALL)}.",
)
@click.option("--rounds", type=click.IntRange(1), help="Default: 2 for quick, 3 for full.")
@click.option(
    "--json", "output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write all that was measured, after each round too.",
)
@click.option(
    "--go-on", is_flag=True,
    help="With --json: measure only what that file lacks, and add to it (a run was cut off).",
)
@click.option(
    "--write-docs", "source", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="JSON", help="Measure nothing: write docs/benchmarks.md from that file.",
)
@click.option(
    "--show", "shown", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="JSON", help="Measure nothing: print the tables of that file.",
)
def main(
    profile: str, only: tuple[str, ...] | None, who: tuple[str, ...] | None, rounds: int | None,
    output: Path | None, go_on: bool, source: Path | None, shown: Path | None,
) -> None:
    """Measure this project and its peers side by side.

    \b
    scripts/bench                                    the core of it, in three minutes
    scripts/bench full --json bench.json             all of it, most of an hour
    scripts/bench --write-docs bench.json            docs/benchmarks.md from that
    scripts/bench quick --only noop-32 --contestants twolane,saq

    Peers are installed on first use, each below .venv-bench. The machine should do nothing else.
    """
    if source is not None:
        docs.write(reports.load(source.read_bytes()))
        print(f"wrote {docs.PAGE.relative_to(environments.ROOT)}", file=sys.stderr)
        return
    width = None if sys.stdout.isatty() else 160
    if shown is not None:
        tables.show_all(Console(width=width), reports.load(shown.read_bytes()))
        return
    chosen = workloads.PROFILES[profile]
    pairs = choose(chosen, only, who)
    if not pairs:
        raise click.UsageError("none of these contestants takes part in any of these workloads")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    prepare(pairs)
    # Without the file's name, which is nobody's business in the documentation.
    words = ["scripts/bench", profile]
    words += ["--only", ",".join(only)] if only else []
    words += ["--contestants", ",".join(who)] if who else []
    words += ["--rounds", str(rounds)] if rounds else []
    earlier = None
    if go_on:
        if output is None or not output.is_file():
            raise click.UsageError("--go-on needs --json with a file of an earlier run")
        earlier = reports.load(output.read_bytes())
    report = run(chosen, pairs, rounds or chosen.rounds, output, shlex.join(words), earlier)
    tables.show_all(Console(width=width), report)
    if any(one.error for one in report.samples):
        sys.exit(1)


# fmt: on


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def choose(profile: Profile, only: tuple[str, ...] | None, who: tuple[str, ...] | None) -> Pairs:
    """Who runs what: the profile's choice, and within a named workload everybody who can."""
    pairs: Pairs = []
    for workload in workloads.ALL.values():
        usual = profile.only.get(workload.name, () if profile.only else workload.contestants)
        if only is not None and workload.name not in only:
            continue
        if who is not None:
            names = tuple(one for one in workload.contestants if one in who)
        elif only is not None:
            names = usual or workload.contestants
        else:
            names = usual
        if only is None and not usual:
            continue
        if names:
            pairs.append((workload, [contestants.ALL[one] for one in names]))
    return pairs


def prepare(pairs: Pairs) -> None:
    wanted = dict.fromkeys(
        one.environment for _, several in pairs for one in several if one.environment
    )
    for name in wanted:
        if not environments.is_ready(name):
            say(f"installing {name}")
            try:
                environments.make(name)
            except environments.EnvironmentFailed as error:
                raise click.ClickException(str(error)) from None


def run(
    profile: Profile,
    pairs: Pairs,
    rounds: int,
    output: Path | None,
    command: str,
    earlier: Report | None = None,
) -> Report:
    began = time.monotonic()
    described = machine.describe("")
    with Server() as server, tempfile.TemporaryDirectory(prefix="twolane-bench-") as directory:
        described.valkey = server.version
        loops = loops_per_millisecond()
        bench = Bench(server, profile, Path(directory), loops)
        report = Report(
            profile=profile.name,
            commit=machine.commit(),
            began=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            command=command,
            rounds=rounds,
            machine=described,
            loops_per_ms=loops,
            versions={},
            setups=[],
            samples=[],
        )
        have = (
            {(one.workload, one.contestant, one.round) for one in earlier.samples}
            if earlier
            else set()
        )
        for workload, several in pairs:
            several[:] = [
                one
                for one in several
                if any((workload.name, one.name, n + 1) not in have for n in range(rounds))
            ]
        set_up(bench, pairs, report)
        if earlier is not None:
            _go_on_from(earlier, report)
        before = report.seconds
        for sample in measured(bench, pairs, rounds, have):
            report.samples.append(sample)
            report.seconds = before + time.monotonic() - began
            if output is not None:
                output.write_bytes(reports.dump(report))
    return report


def _go_on_from(earlier: Report, report: Report) -> None:
    """Take over what was measured, and how; the machine is described as it is now."""
    report.samples, report.seconds = earlier.samples, earlier.seconds
    report.began, report.rounds = earlier.began, max(earlier.rounds, report.rounds)
    report.command = f"{earlier.command}`, then `{report.command} --go-on"
    known = {(one.workload, one.contestant) for one in report.setups}
    report.setups[:0] = [
        one for one in earlier.setups if (one.workload, one.contestant) not in known
    ]
    report.versions = {**earlier.versions, **report.versions}


def set_up(bench: Bench, pairs: Pairs, report: Report) -> None:
    """Ask each contestant for its versions and settings, and print the settings."""
    for workload, several in pairs:
        for one in several:
            plan = bench.plan(workload, one)
            try:
                found = processes.describe(one.environment, one.module, plan)
            except processes.ContestantFailed as error:
                raise click.ClickException(f"{one.name} does not start:\n{error}") from None
            report.versions[one.environment or one.module] = found["versions"]
            report.setups.append(Setup(workload.name, one.name, found["settings"]))
            say(f"{workload.name}, {one.name}: {found['settings']}")


def measured(
    bench: Bench, pairs: Pairs, rounds: int, have: set[tuple[str, str, int]]
) -> Iterator[Sample]:
    """In turn and repeated: A B C A B C of one workload, then the next workload.

    What ``have`` names has been measured before.
    """
    for workload, several in pairs:
        for round_ in range(1, rounds + 1):
            for one in several:
                if (workload.name, one.name, round_) in have:
                    continue
                sample = bench.take(workload, one, round_)
                figures = ", ".join(
                    f"{tables.number(sample.values[measure.key])} {measure.unit}"
                    for measure in workloads.MEASURES[workload.method]
                    if measure.key in sample.values
                )
                say(
                    f"{workload.name} {round_}/{rounds} {one.name}: "
                    f"{figures or f'failed: {sample.error}'}"
                )
                yield sample


def say(text: str) -> None:
    print(f"scripts/bench: {text}", file=sys.stderr, flush=True)
