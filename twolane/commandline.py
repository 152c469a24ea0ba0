"""What the commands of both sides share: options, errors as one line, data as JSON.

Imports click alone, so that ``twolane --help`` stays quick.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from typing import IO, Any, Final, TypeVar

import click

from twolane.errors import JobDefinitionError, TwolaneError, UsageError
from twolane.registry import SHIPPED_JOBS, Registry

C = TypeVar("C", bound=Callable[..., Any])
ENV_PREFIX: Final = "TWOLANE"
INTERRUPTED: Final = 130

# A value that is nested deeper is cut short: few readers of JSON take more.
MAX_DEPTH: Final = 100


class Option(click.Option):
    """An option with a variable: the command's path and the option's own name.

    click would name it for the function's parameter, so that ``--all`` were ``…_EVERYTHING``.
    """

    def variable(self, ctx: click.Context) -> str:
        name = max(self.opts, key=len).lstrip("-").replace("-", "_").upper()
        return f"{ctx.auto_envvar_prefix or ENV_PREFIX}_{name}"

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        if self.envvar:
            return super().resolve_envvar_value(ctx)
        return os.environ.get(self.variable(ctx)) or None

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        if not self.envvar:
            extra["envvars"] = (self.variable(ctx),)
        return extra


option = functools.partial(click.option, cls=Option, show_envvar=True, show_default=True)


def broker_option(command: C) -> C:
    return option(
        "--broker",
        metavar="URL",
        envvar="TWOLANE_BROKER",
        show_default=False,
        help="Valkey or Redis: redis://, rediss:// (TLS) or unix://. "
        "Default: the one that `twolane up` runs for you.",
    )(command)


def jobs_option(command: C) -> C:
    return option(
        "--jobs",
        "modules",
        metavar="MODULE",
        multiple=True,
        envvar="TWOLANE_JOBS",
        default=(SHIPPED_JOBS,),
        help="Python module whose @job functions can be run; several allowed.",
    )(command)


def json_option(command: C) -> C:
    return option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(command)


def log_option(command: C) -> C:
    return option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        envvar="TWOLANE_LOG_LEVEL",
        default="info",
        help="How much to say on standard error.",
    )(command)


def load_jobs(modules: tuple[str, ...]) -> Registry:
    """The jobs of the modules; the current folder's modules can be named too."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return Registry.load(modules)
    except SystemExit as error:
        raise JobDefinitionError(
            f"--jobs {' '.join(modules)}: a module ended the program when it was imported "
            f"(sys.exit({error.code!r}))"
        ) from None


def start_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s"
    )
    if level != "debug":
        logging.getLogger("asyncio").setLevel(logging.WARNING)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON of whatever a job may have returned, which no terminal acts on when it is printed.

    What JSON has no form for becomes text: bytes as hexadecimal, NaN and the infinities by these
    names (as in Protocol Buffers' JSON mapping), dates and the like as they print.
    """
    text = json.dumps(_for_json(value), indent=indent, ensure_ascii=False, allow_nan=False)
    if text.replace("\n", "").isprintable():
        return text
    # Strings have their newlines escaped, and outside of strings JSON is ASCII: whatever else is
    # not printable stands in a string, where an escape means the same.
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _for_json(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return value.hex()
    if depth < MAX_DEPTH and isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(_for_json(key)): _for_json(one, depth + 1)
            for key, one in value.items()
        }
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return [_for_json(one, depth + 1) for one in value]
    if isinstance(value, dict | list | tuple):
        return "… nested too deeply …"
    return str(value)


def _escape(letter: str) -> str:
    # json.dumps leaves DEL as it is.
    return "\\u007f" if letter == "\x7f" else json.dumps(letter)[1:-1]


def print_json(value: Any) -> None:
    click.echo(to_json(value, indent=2))


def plain(value: object, keep: str = "") -> str:
    """Text that a terminal will not act on: control characters are shown, not sent."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else "�" for c in text)


def counted(number: int, noun: str) -> str:
    """``1 job``, ``2,500 jobs``."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def say(text: str) -> None:
    """A message for the person, on standard error; what is done does not depend on it."""
    with contextlib.suppress(OSError):
        click.echo(plain(text, keep="\n"), err=True)


def open_streams() -> None:
    """Give a process that was started with closed standard streams ones that hold nothing.

    The next file or connection would get their numbers, and with it what is printed. Data that has
    no place is an error, so that a write to standard output fails (as with gnulib's ``stdopen``);
    messages are lost.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
            continue
        except OSError:
            opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (for good)
            setattr(sys, name, stream)


def _lose(stream: IO[str]) -> None:
    """Python would try once more to write at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def one_line_errors(command: Callable[..., Any]) -> Callable[..., int]:
    """Run a click command: its own errors become one line and the exit code of their class."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:
        open_streams()
        for stream in (sys.stdout, sys.stderr):
            # Where the locale is not UTF-8, an ellipsis must not end the command.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            code = command(*args, standalone_mode=False, auto_envvar_prefix=ENV_PREFIX, **kwargs)
            sys.stdout.flush()  # so that what is wrong with it is said here, and in one line
            return code if isinstance(code, int) else 0
        except click.exceptions.Exit as done:
            return done.exit_code
        except (click.Abort, KeyboardInterrupt):
            say("interrupted")
            return INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as error:
            say(error.ctx.get_help())
            return UsageError.exit_code
        except click.UsageError as error:
            say(_usage(error))
            return UsageError.exit_code
        except click.ClickException as error:
            say(f"Error: {error.format_message()}")
            return error.exit_code
        except TwolaneError as error:
            say("Error: " + " ".join(str(error).split()))
            return error.exit_code
        except OSError as error:
            # A reader that went away (`| head`) is told nothing.
            if not isinstance(error, BrokenPipeError):
                say(f"Error: {error.filename or 'output'}: {error.strerror or error}")
            _lose(sys.stdout)
            return TwolaneError.exit_code
        finally:
            try:
                sys.stderr.flush()
            except OSError:
                _lose(sys.stderr)

    return run


def _usage(error: click.UsageError) -> str:
    hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
    return f"Error: {error.format_message().rstrip('.')}{hint}"
