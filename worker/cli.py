"""The commands ``worker io`` and ``worker cpu``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from twolane.commandline import (
    broker_option,
    jobs_option,
    load_jobs,
    log_option,
    option,
    start_logging,
)
from twolane.cores import usable_cores
from twolane.keys import Lane
from twolane.quantities import DURATION, Duration

C = TypeVar("C", bound=Callable[..., Any])


def _common(command: C) -> C:
    for add in (
        log_option,
        click.option("--with-parent", is_flag=True, hidden=True),
        option(
            "--health-file", type=click.Path(path_type=Path, dir_okay=False), default=None,
            metavar="FILE",
            help="Touched once a second while all is well; `python -m worker.health FILE` looks.",
        ),
        option("--burst", is_flag=True, help="End when the queue is empty."),
        option(
            "--lease", type=Duration(least=0.5), default="10s", metavar="TIME",
            help="After how long a dead worker's jobs run again.",
        ),
        option(
            "--grace", type=DURATION, default="30s", metavar="TIME",
            help="How long running jobs may go on after SIGTERM or Ctrl-C.",
        ),
        jobs_option,
        broker_option,
    ):  # fmt: skip
        command = add(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def worker() -> None:
    """Run jobs: the IO lane or the CPU lane.

    SIGTERM or Ctrl-C drains: no new jobs, running ones end within the grace period, the rest go
    back to the queue. A second one stops at once.

    \b
    twolane worker io --concurrency 100
    twolane worker cpu --processes 4
    twolane worker io --jobs my.module --broker redis://localhost:6379/0
    """


@worker.command()
@option("--concurrency", type=click.IntRange(1, 100_000), default=100, help="Jobs at once.")
@option(
    "--files-root", "roots", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    envvar="TWOLANE_FILES_ROOT", help="Folder that read_file may read below; several allowed.",
)  # fmt: skip
@option(
    "--database-url", metavar="URL", envvar="TWOLANE_DATABASE_URL", show_default=False,
    help="Database of the query job. Default: a SQLite file that it makes itself.",
)  # fmt: skip
@_common
def io(concurrency: int, roots: tuple[Path, ...], database_url: str | None, **common: Any) -> int:
    """Run coroutine jobs, many at once, on one event loop.

    \b
    twolane worker io --concurrency 100
    twolane worker io --files-root docs --files-root /srv/data
    """
    context = {"files_roots": tuple(root.resolve() for root in roots), "database_url": database_url}
    return _run("io", concurrency, context=context, **common)


@worker.command()
@option(
    "--processes", type=click.IntRange(1, 1024), default=None,
    help="Processes, one job each. Default: the cores that this process may use.",
)  # fmt: skip
@option(
    "--max-memory", type=click.IntRange(16), metavar="MiB", default=None,
    help="Memory of one process, above which it is killed and its job fails.",
)  # fmt: skip
@option(
    "--max-jobs-per-process", type=click.IntRange(1), default=None,
    help="Replace a process after so many jobs.",
)  # fmt: skip
@_common
def cpu(
    processes: int | None, max_memory: int | None, max_jobs_per_process: int | None, **common: Any
) -> int:
    """Run plain functions, one a process, on as many cores as there are.

    \b
    twolane worker cpu
    twolane worker cpu --processes 2 --max-memory 512
    """
    return _run(
        "cpu",
        processes or usable_cores(),
        max_memory_bytes=max_memory * 1024 * 1024 if max_memory else None,
        max_jobs_per_process=max_jobs_per_process,
        **common,
    )


def _run(
    lane: Lane,
    slots: int,
    *,
    broker: str | None,
    modules: tuple[str, ...],
    grace: float,
    lease: float,
    burst: bool,
    log_level: str,
    **rest: Any,
) -> int:
    start_logging(log_level)
    from twolane.broker import resolve
    from worker.service import Settings, run

    load_jobs(modules)
    settings = Settings(
        url=resolve(broker),
        lane=lane,
        modules=modules,
        slots=slots,
        grace_seconds=grace,
        lease_ms=int(lease * 1000),
        burst=burst,
        **rest,
    )
    return run(settings)
