"""The command ``jobs``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import click

from twolane.commandline import jobs_option, json_option, load_jobs, print_json


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@jobs_option
@json_option
def jobs(modules: tuple[str, ...], as_json: bool) -> None:
    """The jobs that can be enqueued, with their arguments.

    \b
    twolane jobs
    twolane jobs --jobs my.module
    """
    from producer.cli import tables
    from twolane.arguments import Signature

    registry = load_jobs(modules)
    if as_json:
        print_json(
            [
                {
                    "name": job.name,
                    "lane": job.lane,
                    "module": job.module,
                    "signature": str(Signature(job)),
                    "timeout": job.timeout,
                    "retries": job.retries,
                    "keep_result": job.keep_result,
                    "help": inspect.getdoc(job.function),
                }
                for job in registry
            ]
        )
        return
    rows = [
        (job.lane, str(Signature(job)), _first_line(job.function))
        for job in sorted(registry, key=lambda job: (job.lane != "io", job.name))
    ]
    tables.console().print(tables.table(("lane", "job", ""), rows))


def _first_line(function: Callable[..., object]) -> str:
    """What a function does, without the marks of its docstring's markup."""
    return (inspect.getdoc(function) or "").partition("\n")[0].replace("``", "")
