"""The command ``twolane arq``: takes the place of ``arq`` for an existing application."""

from __future__ import annotations

import asyncio
import logging.config
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import click
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from twolane.commandline import option
from twolane.errors import BrokerError, BrokerRefused, BrokerUnreachable, UsageError
from twolane.quantities import Duration
from worker.acknowledger import BROKER_AWAY

if TYPE_CHECKING:
    from worker.arq import Worker

log = logging.getLogger("arq.worker")


@click.command("arq", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("worker-settings")
@click.version_option(None, "-V", "--version", package_name="arq", prog_name="arq")
@option("--burst/--no-burst", default=None, help="End when the queue is empty.")
@option("--check", is_flag=True, help="Look at the health check key; exit code 0 or 1.")
@option(
    "--watch", metavar="DIR", type=click.Path(exists=True, dir_okay=True, file_okay=False),
    help="Run the worker anew when a file below DIR changes (needs watchfiles).",
)  # fmt: skip
@option("-v", "--verbose", is_flag=True, help="Log at level DEBUG.")
@option("--custom-log-dict", metavar="PATH", help="Logging settings: the path of a dict.")
@option(
    "--lease", type=Duration(least=0.5), default=None, metavar="TIME",
    help="After how long a dead worker's jobs run again. Default: the settings' `lease`, or 10s.",
)  # fmt: skip
@option(
    "--loop", type=click.Choice(["uvloop", "asyncio"]), default="uvloop",
    help="The event loop to run on.",
)  # fmt: skip
def arq(
    worker_settings: str,
    burst: bool | None,
    check: bool,
    watch: str | None,
    verbose: bool,
    custom_log_dict: str | None,
    lease: float | None,
    loop: str,
) -> None:
    """Run an arq application's jobs, in the place of `arq`.

    WORKER_SETTINGS is the path of the application's settings class. Payloads and results are read
    and written with the application's own serializer, which is pickle where it sets none.

    \b
    twolane arq my.app.WorkerSettings
    twolane arq my.app.WorkerSettings --burst --lease 30s
    twolane arq my.app.WorkerSettings --check
    """
    from arq.logs import default_log_config

    from worker.arq import create_worker

    sys.path.append(os.getcwd())
    settings = _imported(worker_settings)
    log_config = _imported(custom_log_dict) if custom_log_dict else default_log_config(verbose)
    logging.config.dictConfig(log_config)
    _log_ours_as_arqs()
    if check:
        click.get_current_context().exit(_check(settings))
    options: dict[str, Any] = {} if burst is None else {"burst": burst}
    if lease is not None:
        options["lease"] = lease
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        # Where arq's worker finds it.
        asyncio.set_event_loop(runner.get_loop())
        if watch is None:
            _run(create_worker(settings, **options))
        else:
            runner.run(_run_anew(Path(watch), lambda: create_worker(settings, **options)))


def _check(settings: Any) -> int:
    """arq's check of the health key: 0 where it is there, 1 where it is not, or no server is."""
    import arq.worker

    try:
        return arq.worker.check_health(settings)
    except BROKER_AWAY as error:
        log.warning("Health check failed: no server answers (%s)", type(error).__name__)
        return 1


def _run(worker: Worker) -> None:
    failure: Exception
    try:
        worker.run()
    except BROKER_AWAY as error:
        failure = error
    else:
        return
    if "redis" not in worker.ctx:  # not connected
        raise _no_server(failure)
    # What the application's own code raised, its database's error, say. The command would take it
    # for one of standard output.
    traceback.print_exception(failure)
    click.get_current_context().exit(1)


def _no_server(failure: Exception) -> BrokerError:
    said = failure.__cause__ if isinstance(failure.__cause__, RedisError) else failure
    if isinstance(said, AuthenticationError):
        return BrokerRefused("the server refuses the user or the password in redis_settings")
    if isinstance(said, ResponseError):
        # A server that does not know AUTH quotes its arguments.
        text = str(said).partition(" with args beginning with")[0]
        return BrokerRefused(f"the server refuses what redis_settings ask for ({text})")
    return BrokerUnreachable(
        f"no server answers as the application's redis_settings say ({type(failure).__name__})"
    )


def _imported(path: str) -> Any:
    from arq.utils import import_string

    try:
        return import_string(path)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{path}: there is no module {error.name}; give the path of a class in a module that "
            "the current folder or this environment has, such as my.app.WorkerSettings"
        ) from error
    except ImportError as error:
        raise UsageError(f"{path}: {error}") from error


def _log_ours_as_arqs() -> None:
    """What is said of leases and outages goes where the application sends arq's log."""
    theirs, ours = logging.getLogger("arq"), logging.getLogger("twolane")
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("twolane."):  # an application's settings turn off what they do not name
            logging.getLogger(name).disabled = False
    if not ours.handlers:
        ours.handlers[:] = theirs.handlers
        ours.setLevel(theirs.level)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop" and sys.platform != "win32":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


async def _run_anew(directory: Path, make: Callable[[], Any]) -> None:
    """Run a worker until a signal, from the beginning after each change of a file."""
    try:
        from watchfiles import awatch
    except ImportError:
        raise UsageError("--watch needs watchfiles; install it: pip install watchfiles") from None
    stopped = asyncio.Event()

    def on_stop(signum: Signals) -> None:
        if signum != Signals.SIGUSR1:
            stopped.set()

    def ended(running: asyncio.Task[None]) -> None:
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("the worker ended; it starts again with the next change", exc_info=error)

    def start() -> asyncio.Task[None]:
        started = asyncio.create_task(worker.async_run())
        started.add_done_callback(ended)
        return started

    worker = make()
    worker.on_stop = on_stop
    running = start()
    try:
        async for _ in awatch(directory, stop_event=stopped):
            print("\nfiles changed, reloading arq worker...")
            worker.handle_sig(Signals.SIGUSR1)
            await worker.close()
            running = start()
    finally:
        await worker.close()
        running.cancel()
