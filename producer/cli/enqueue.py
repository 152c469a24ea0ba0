"""The commands ``enqueue …``: each makes a run of jobs."""

from __future__ import annotations

import glob
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from twolane.commandline import (
    broker_option,
    counted,
    jobs_option,
    json_option,
    load_jobs,
    option,
    print_json,
    say,
)
from twolane.errors import BadArguments, TwolaneError, UsageError
from twolane.keys import LANES
from twolane.quantities import DURATION

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from producer.submit import Call, Caller

C = TypeVar("C", bound=Callable[..., Any])
TARGET_URL: Final = "http://127.0.0.1:8080/"
# UTF-8 on every machine; a byte order mark, as Windows editors write, is passed over. Bytes that
# are not UTF-8 become surrogates, which no UTF-8 has: so each line can be told by itself.
TEXT: Final = click.File("r", encoding="utf-8-sig", errors="surrogateescape")
# As many as the ids of a run's jobs have digits for; see twolane.runs.job_id.
COUNT: Final = click.IntRange(1, 10_000_000)
# Prints at most this many bad lines of a file: the first ones show what is wrong with it.
MAX_BAD_LINES: Final = 10


def submitting(command: C) -> C:
    """The options that every way to enqueue has."""
    for add in (
        json_option,
        option(
            "--timeout", type=DURATION, default=None, metavar="TIME",
            help="With --wait: give up after so long, as 30s or 5m (exit code 5); the run goes on.",
        ),
        option("--wait", is_flag=True, help="Wait for the run, then print its comparison."),
        option(
            "--run", "name", default=None, metavar="NAME", help="The run's name. Default: made up.",
        ),
        jobs_option,
        broker_option,
    ):  # fmt: skip
        command = add(command)
    return command


def submit_calls(
    make: Callable[[Caller], Iterable[Call]],
    kind: str,
    *,
    broker: str | None,
    modules: tuple[str, ...],
    name: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Check all calls, enqueue them as one run, and wait for it where asked to."""
    from producer.cli import report
    from producer.cli.session import with_broker
    from producer.submit import Caller, submit

    calls = list(make(Caller(load_jobs(modules))))
    expected = {lane: sum(call.job.lane == lane for call in calls) for lane in LANES}

    async def work(client: Redis) -> int:
        run = await submit(client, calls, kind, name)
        if not wait:
            if as_json:
                print_json({"run": run.name, "jobs": run.total})
            else:
                click.echo(run.name)
                say(
                    f"{counted(run.total, 'job')} enqueued; "
                    f"follow the run: twolane runs show {run.name} --wait"
                )
            return 0
        if not as_json:
            say(f"run {run.name}: {counted(run.total, 'job')} enqueued")
        collected = await report.wait_with_progress(client, run.name, expected, timeout)
        return report.finish(collected, as_json)

    return with_broker(broker, work)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def enqueue() -> None:
    """Make jobs; each call makes a run.

    \b
    twolane enqueue primes --below 10_000_000 --chunks 32 --wait
    twolane enqueue fetch --url http://127.0.0.1:8080/ --count 1000 --wait
    twolane enqueue job my_job key=value --jobs my.module
    """


@enqueue.command()
@option("--url", default=TARGET_URL, help="What to fetch.")
@option(
    "--urls", type=TEXT, default=None, metavar="FILE|-", help="One URL a line instead.",
)  # fmt: skip
@option("--count", type=COUNT, default=1, help="How often to fetch each.")
@submitting
def fetch(url: str, urls: IO[str] | None, count: int, **common: Any) -> int:
    """Fetch URLs (IO lane).

    \b
    twolane target --latency 50ms              in another terminal
    twolane enqueue fetch --count 1000 --wait
    twolane enqueue fetch --urls list.txt --wait
    """
    wanted = [(url, "")]
    if urls is not None:
        wanted = [(line.strip(), f"line {number}: ") for number, line in _lines_of(urls)]
        for line, place in wanted:
            _check_text(line, f"{urls.name}: {place}")
    return submit_calls(lambda caller: _fetches(caller, wanted, count), "fetch", **common)


@enqueue.command()
@option(
    "--glob", "pattern", required=True, metavar="PATTERN", help="Files, such as 'docs/**/*.md'."
)
@option(
    "--files-root", "roots", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    envvar="TWOLANE_FILES_ROOT", default=(Path(),), help="Folder that the files must be below.",
)  # fmt: skip
@submitting
def read(pattern: str, roots: tuple[Path, ...], **common: Any) -> int:
    """Read and count files (IO lane, in threads).

    \b
    twolane enqueue read --glob 'docs/**/*.md' --wait
    """
    return submit_calls(lambda caller: _reads(caller, pattern, roots), "read", **common)


@enqueue.command()
@option("--rows", type=int, default=500, help="Rows that each query reads.")
@option("--count", type=COUNT, default=1, help="How many queries.")
@submitting
def query(rows: int, count: int, **common: Any) -> int:
    """Query the worker's database (IO lane).

    \b
    twolane enqueue query --rows 500 --count 100 --wait
    """
    return submit_calls(
        lambda caller: [caller.call("query", {"rows": rows})] * count, "query", **common
    )


def primes_options(command: C) -> C:
    for add in (
        option(
            "--method", type=click.Choice(["sieve", "trial"]), default="sieve",
            help="A segmented sieve, or trial division.",
        ),
        option(
            "--chunks", type=click.IntRange(1, 1_000_000), default=32,
            help="Jobs to split it into.",
        ),
        option(
            "--below", type=click.IntRange(2, 10**13), default=10_000_000, metavar="N",
            help="Count the primes below N.",
        ),
    ):  # fmt: skip
        command = add(command)
    return command


@enqueue.command()
@primes_options
@submitting
def primes(below: int, chunks: int, method: str, **common: Any) -> int:
    """Count primes (CPU lane), checked against the known values.

    \b
    twolane enqueue primes --below 10_000_000 --chunks 32 --wait
    twolane enqueue primes --below 1_000_000 --method trial --wait
    """
    return submit_calls(
        lambda caller: prime_calls(caller, below, chunks, method), "primes", **common
    )


@enqueue.command()
@option("--url", default=TARGET_URL, help="What to fetch.")
@option("--fetches", type=click.IntRange(0, 10_000_000), default=200, help="How many fetches.")
@option("--glob", "pattern", default=None, metavar="PATTERN", help="Files to read. Default: none.")
@option(
    "--files-root", "roots", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    envvar="TWOLANE_FILES_ROOT", default=(Path(),), help="Folder that the files must be below.",
)  # fmt: skip
@option("--queries", type=click.IntRange(0, 10_000_000), default=50, help="How many queries.")
@option("--rows", type=int, default=500, help="Rows that each query reads.")
@primes_options
@submitting
def mixed(
    url: str, fetches: int, pattern: str | None, roots: tuple[Path, ...], queries: int, rows: int,
    below: int, chunks: int, method: str, **common: Any,
) -> int:  # fmt: skip
    """Fetches, queries, files and primes at once, on both lanes.

    \b
    twolane enqueue mixed --wait
    twolane enqueue mixed --fetches 1000 --below 100_000_000 --wait
    """

    def make(caller: Caller) -> Iterator[Call]:
        if fetches:
            yield from _fetches(caller, [(url, "")], fetches)
        if pattern is not None:
            yield from _reads(caller, pattern, roots)
        if queries:
            yield from [caller.call("query", {"rows": rows})] * queries
        yield from prime_calls(caller, below, chunks, method)

    return submit_calls(make, "mixed", **common)


@enqueue.command()
@click.argument("job_name", metavar="NAME")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@option("--args", "args_json", default=None, metavar="JSON", help="The arguments as a JSON object.")
@option("--count", type=COUNT, default=1, help="How often to run it.")
@submitting
def job(
    job_name: str, pairs: tuple[str, ...], args_json: str | None, count: int, **common: Any
) -> int:
    """Run any registered job; `twolane jobs` lists them.

    \b
    twolane enqueue job count_primes low=0 high=1_000_000 --wait
    twolane enqueue job my_job name=Ada n=3 --jobs my.module --count 10
    twolane enqueue job my_job --args '{"items": [1, 2]}' --jobs my.module
    """
    if pairs and args_json is not None:
        raise click.UsageError("give KEY=VALUE or --args, not both")

    def make(caller: Caller) -> list[Call]:
        if args_json is not None:
            call = caller.call(job_name, _json_object(args_json, "--args"))
        else:
            call = caller.call(job_name, dict(_pair(one) for one in pairs), from_text=True)
        return [call] * count

    return submit_calls(make, "job", **common)


@enqueue.command()
@click.argument("source", type=TEXT, metavar="FILE|-")
@option("--skip-bad", is_flag=True, help="Enqueue the good lines although there are bad ones.")
@submitting
def file(source: IO[str], skip_bad: bool, **common: Any) -> int:
    """Run the jobs that a file of JSON lines names.

    \b
    {"job": "count_primes", "args": {"low": 0, "high": 1000}}
    twolane enqueue file jobs.jsonl --wait
    generate-jobs | twolane enqueue file - --skip-bad
    """
    return submit_calls(lambda caller: _lines(caller, source, skip_bad), "file", **common)


def _fetches(caller: Caller, urls: list[tuple[str, str]], count: int) -> list[Call]:
    """``count`` calls for each URL; it comes with the place to name if it is none."""
    calls: list[Call] = []
    for url, place in urls:
        try:
            calls += [caller.call("fetch", {"url": url})] * count
        except BadArguments as error:
            raise BadArguments(f"{place}{error}") from None
    return calls


def _lines_of(source: IO[str]) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(source, 1) if line.strip())


def _check_text(line: str, place: str = "") -> None:
    try:
        line.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{place}not UTF-8 text") from None


def _reads(caller: Caller, pattern: str, roots: tuple[Path, ...]) -> list[Call]:
    from twolane.jobs.files import check_path

    paths = sorted(path for path in glob.glob(pattern, recursive=True) if not Path(path).is_dir())
    if not paths:
        raise UsageError(f"--glob {pattern!r} matches no file below {Path.cwd()}")
    allowed = tuple(root.resolve() for root in roots)
    return [caller.call("read_file", {"path": str(check_path(path, allowed))}) for path in paths]


def prime_calls(caller: Caller, below: int, chunks: int, method: str) -> list[Call]:
    """Jobs that count the primes below a number, each its share of the range."""
    chunks = min(chunks, below)
    edges = [below * number // chunks for number in range(chunks + 1)]
    return [
        caller.call("count_primes", {"low": low, "high": high, "method": method})
        for low, high in itertools.pairwise(edges)
    ]


def _lines(caller: Caller, source: IO[str], skip_bad: bool) -> list[Call]:
    calls: list[Call] = []
    bad: list[str] = []
    for number, line in _lines_of(source):
        try:
            _check_text(line)
            calls.append(_line(caller, line))
        except TwolaneError as error:
            bad.append(f"line {number}: {error}")
    if bad and not skip_bad:
        more = f" (and {counted(len(bad) - 1, 'more bad line')})" if len(bad) > 1 else ""
        raise UsageError(f"{bad[0]}{more}; nothing was enqueued (--skip-bad enqueues the rest)")
    for text in bad[:MAX_BAD_LINES]:
        say(f"skipped {text}")
    if len(bad) > MAX_BAD_LINES:
        say(f"skipped {counted(len(bad) - MAX_BAD_LINES, 'more bad line')}")
    return calls


def _line(caller: Caller, line: str) -> Call:
    value = _json_object(line, "it")
    unknown = sorted(set(value) - {"job", "args"})
    if not isinstance(value.get("job"), str) or unknown:
        what = f"it has {unknown[0]!r}" if unknown else 'it has no "job"'
        raise UsageError(f'{what}; expected {{"job": "name", "args": {{…}}}}')
    args = value.get("args", {})
    if not isinstance(args, dict):
        raise UsageError(f'"args" is {_kind(args)}, expected an object {{…}}')
    return caller.call(value["job"], args)


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{what} is not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError as error:  # a number of thousands of digits
        raise UsageError(f"{what} cannot be read as JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply") from None
    if not isinstance(value, dict):
        raise UsageError(f"{what} is {_kind(value)} in JSON, expected an object {{…}}")
    return value


def _kind(value: Any) -> str:
    """What JSON calls a value's type."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds: dict[type, str] = {list: "an array", str: "a string"}
    return kinds.get(type(value), "a number")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    return key, value
