"""Which work a laboratory command runs: a job with arguments from the command line, or a default.

``--io my_job url=… n=3`` takes the words with a ``=`` after the job's name for its arguments; as
one quoted word, and from a variable, it means the same.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from click.core import ParameterSource

from twolane.commandline import load_jobs, option
from twolane.errors import UnknownJob, UsageError
from twolane.quantities import DURATION

if TYPE_CHECKING:
    from producer.submit import Call
    from twolane.keys import Lane
    from twolane.registry import Registry

# Some 40 ms of one core: long enough that handing it over costs nothing beside it.
PRIMES_HIGH: Final = 60_000
NAMED: Final = ("--io", "--cpu", "--job")

latency_option = option(
    "--latency", type=DURATION, default="50ms", metavar="TIME",
    help="How long the web service takes that the fetches of the IO lane's default go to.",
)  # fmt: skip


class Wanted(NamedTuple):
    """A job and its arguments as they were written; ``lane`` is what the option asked for."""

    job: str
    arguments: dict[str, str]
    lane: Lane | None = None


class JobCommand(click.Command):
    """A command whose ``--io``, ``--cpu`` and ``--job`` take a job's arguments too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _gathered(args))


def refuse(option_name: str, reason: str) -> None:
    """Refuse an option that would do nothing here, where it was written and not a variable's.

    Raises:
        UsageError: it was written.
    """
    ctx = click.get_current_context()
    if ctx.get_parameter_source(option_name) is ParameterSource.COMMANDLINE:
        raise UsageError(f"--{option_name.replace('_', '-')} {reason}")


def _gathered(args: Sequence[str]) -> list[str]:
    """The same words, a named job and its arguments joined into one."""
    made: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in NAMED or not (equals or rest):
            made.append(word)
            continue
        words = [value if equals else rest.pop(0)]
        while rest and "=" in rest[0] and not rest[0].startswith("-"):
            words.append(shlex.quote(rest.pop(0)))
        made += [name, " ".join(words)]
    return made


def from_option(text: str, lane: Lane | None) -> Wanted:
    """``my_job url=… n=3`` as an option has it.

    Raises:
        UsageError: it is no job with arguments.
    """
    try:
        found = from_words(shlex.split(text), lane)
    except ValueError as error:
        raise UsageError(f"{text!r} cannot be read: {error}") from None
    if len(found) != 1:
        raise UsageError(f"{text!r} is not one job with its arguments; write: my_job key=value")
    return found[0]


def from_words(words: Sequence[str], lane: Lane | None = None) -> list[Wanted]:
    """Jobs with their arguments: ``my_job n=3 my_other x=1`` are two.

    Raises:
        UsageError: an argument comes before any job.
    """
    found: list[Wanted] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            found.append(Wanted(word, {}, lane))
        elif found and key:
            found[-1].arguments[key] = value
        else:
            raise UsageError(f"{word!r} stands before any job; write: my_job {word}")
    return found


class Source:
    """Jobs by name, their modules loaded; a name with dots may be a module's and a job's."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.registry: Registry = load_jobs(modules)

    @property
    def modules(self) -> tuple[str, ...]:
        return self.registry.modules

    def call(self, wanted: Wanted) -> Call:
        """The call, its arguments checked.

        Raises:
            UnknownJob, BadArguments: the message names what is wrong.
            UsageError: the job is of another lane than was asked for.
        """
        from producer.submit import Caller

        name = self._known(wanted.job)
        call = Caller(self.registry).call(name, wanted.arguments, from_text=True)
        if wanted.lane is not None and call.job.lane != wanted.lane:
            raise UsageError(
                f"job {name!r} belongs to the {call.job.lane} lane, not to the {wanted.lane} lane"
            )
        return call

    def _known(self, name: str) -> str:
        module, dot, last = name.rpartition(".")
        if name in self.registry or not dot:
            return name
        try:
            found = load_jobs((*self.modules, module))
        except Exception as error:  # the module of the user's may raise anything on import
            raise UnknownJob(f"unknown job {name!r}, and no module {module!r}: {error}") from None
        self.registry = found
        return last


def default(lane: Lane, url: str) -> Wanted:
    """Fetches for the IO lane, primes for the CPU lane."""
    if lane == "io":
        return Wanted("fetch", {"url": url}, lane)
    return Wanted("count_primes", {"low": "0", "high": str(PRIMES_HIGH), "method": "trial"}, lane)


@contextlib.asynccontextmanager
async def service(
    is_needed: bool, latency_seconds: float, p99_seconds: float | None = None
) -> AsyncIterator[Any]:
    """The web service of the default IO work where it is needed, else None."""
    if not is_needed:
        yield None
        return
    from producer.local import target

    async with target(latency_seconds, p99_seconds) as served:
        yield served
