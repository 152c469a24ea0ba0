"""The command ``up``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import psutil

from twolane.commandline import INTERRUPTED, jobs_option, load_jobs, log_option, option, say
from twolane.errors import BrokerError, TwolaneError
from twolane.quantities import DURATION

if TYPE_CHECKING:
    from producer.local import LocalFleet
    from twolane.embedded import Embedded
    from twolane.keys import Lane

BROKER_LOOK_SECONDS: Final = 1.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option("--concurrency", type=click.IntRange(1, 100_000), default=100, help="IO jobs at once.")
@option(
    "--processes", type=click.IntRange(1, 1024), default=None,
    help="CPU jobs at once. Default: the cores that may be used.",
)  # fmt: skip
@option(
    "--files-root", "roots", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    envvar="TWOLANE_FILES_ROOT", default=(Path(),), help="Folder that read_file may read below.",
)  # fmt: skip
@option(
    "--appendfsync", type=click.Choice(["always", "everysec"]), default="everysec",
    help="When the broker writes to disk: before each reply, or every second.",
)  # fmt: skip
@option(
    "--grace", type=DURATION, default="30s", metavar="TIME",
    help="How long running jobs may go on after Ctrl-C.",
)  # fmt: skip
@jobs_option
@log_option
def up(
    concurrency: int, processes: int | None, roots: tuple[Path, ...], appendfsync: str,
    grace: float, modules: tuple[str, ...], log_level: str,
) -> int:  # fmt: skip
    """A broker and one worker a lane, until Ctrl-C.

    The broker is a Valkey on a Unix socket that only you can use; its data stays for the next
    time. Other commands find it by themselves.

    \b
    twolane up
    twolane up --jobs my.module --concurrency 500
    """
    from producer.local import LocalFleet
    from twolane.broker import connect
    from twolane.embedded import Embedded

    load_jobs(modules)
    common = [f"--log-level={log_level}", *(f"--jobs={name}" for name in modules)]
    io = [f"--concurrency={concurrency}", *(f"--files-root={root.resolve()}" for root in roots)]
    cpu = [f"--processes={processes}"] if processes else []

    lanes: dict[Lane, list[str]] = {"io": io, "cpu": cpu}

    async def run() -> int:
        stop = _Stop()
        server = Embedded.for_user("always" if appendfsync == "always" else "everysec")
        try:
            await asyncio.to_thread(server.start)
        except BrokerError as error:
            # Not exit code 3: it is not that a broker cannot be reached.
            raise TwolaneError(str(error)) from None
        try:
            client = connect(server.url)
            async with LocalFleet(server.url, common, grace) as fleet:
                stop.listen(fleet)
                await fleet.start("io", *io)
                await fleet.start("cpu", *cpu)
                await stop.or_done(fleet.wait_ready(client))
                if not stop.asked.is_set():
                    say(
                        f"ready at {server.url}\n"
                        "in another terminal: twolane enqueue primes --wait; Ctrl-C here ends it"
                    )
                try:
                    async with asyncio.TaskGroup() as watching:
                        watching.create_task(_look_after(fleet, stop, lanes))
                        watching.create_task(_keep_broker(server, stop))
                except ExceptionGroup as group:
                    raise group.exceptions[0] from None
            await client.aclose()
        finally:
            await asyncio.to_thread(server.stop)
        say("ended; the broker's data stays for the next time")
        return INTERRUPTED if stop.twice else 0

    return asyncio.run(run())


class _Stop:
    """The first signal ends the wait; the second kills the workers, whose jobs come back."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.twice = False

    async def or_done(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for ``work``, or until asked to stop; raises what ``work`` raises."""
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if task.done():
            await task
        task.cancel()

    def listen(self, fleet: LocalFleet) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._signalled, fleet)

    def _signalled(self, fleet: LocalFleet) -> None:
        if self.asked.is_set():
            self.twice = True
            say("stopping at once; jobs that ran come back by their leases")
            fleet.kill()
        else:
            say("draining; a second Ctrl-C stops at once")
            self.asked.set()


async def _look_after(fleet: LocalFleet, stop: _Stop, options: dict[Lane, list[str]]) -> None:
    """Replace a worker that dies, until asked to stop."""
    asked = asyncio.create_task(stop.asked.wait())
    while not asked.done():
        watched = {asyncio.create_task(one.process.wait()): one for one in fleet.children}
        await asyncio.wait({asked, *watched}, return_when=asyncio.FIRST_COMPLETED)
        for task, child in watched.items():
            if task.done() and not asked.done():
                status = child.process.returncode
                say(f"the {child.name} ended with status {status}; starting another")
                fleet.children.remove(child)
                # A worker that cannot start must not be started in a tight loop.
                await asyncio.wait({asked}, timeout=1.0)
                if not asked.done():
                    await fleet.start(child.lane, *options[child.lane])
            else:
                task.cancel()


async def _keep_broker(server: Embedded, stop: _Stop) -> None:
    """Start the server again where it died; its data are in the append-only file.

    Raises:
        BrokerError: it cannot be started again.
    """
    while not stop.asked.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BROKER_LOOK_SECONDS):
                await stop.asked.wait()
        if stop.asked.is_set() or not _is_dead(server.pid):
            continue
        say("the broker ended; starting it again with its data")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)


def _is_dead(pid: int) -> bool:
    """By the process and not by a PING: a server that is only slow must not be started twice."""
    try:
        # Its keeper does not bury it before the server is stopped.
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
