"""What the commands of both sides share: options, errors as one line, data as JSON.

Imports click alone, so that ``twolane --help`` stays quick.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from twolane.errors import TwolaneError, UsageError
from twolane.registry import SHIPPED_JOBS, Registry

C = TypeVar("C", bound=Callable[..., Any])
ENV_PREFIX: Final = "TWOLANE"
INTERRUPTED: Final = 130

# ``auto_envvar_prefix`` gives every option a variable; showing it is a matter of each option.
option = functools.partial(click.option, show_envvar=True, show_default=True)


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
    return Registry.load(modules)


def start_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s"
    )
    if level != "debug":
        logging.getLogger("asyncio").setLevel(logging.WARNING)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def say(text: str) -> None:
    """A message for the person, on standard error."""
    click.echo(text, err=True)


def one_line_errors(command: Callable[..., Any]) -> Callable[..., int]:
    """Run a click command: its own errors become one line and the exit code of their class."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            code = command(*args, standalone_mode=False, auto_envvar_prefix=ENV_PREFIX, **kwargs)
            return code if isinstance(code, int) else 0
        except click.exceptions.Exit as done:
            return done.exit_code
        except (click.Abort, KeyboardInterrupt):
            say("interrupted")
            return INTERRUPTED
        except click.UsageError as error:
            say(_usage(error))
            return UsageError.exit_code
        except click.ClickException as error:
            say(f"Error: {error.format_message()}")
            return error.exit_code
        except TwolaneError as error:
            say("Error: " + " ".join(str(error).split()))
            return error.exit_code
        except BrokenPipeError:
            # The reader of our output went away (`| head`); Python would complain at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    return run


def _usage(error: click.UsageError) -> str:
    hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
    return f"Error: {error.format_message()}{hint}"
