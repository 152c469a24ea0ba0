"""Workers and the target as child processes on this machine.

They are started in sessions of their own, so that the terminal's Ctrl-C reaches only us, and they
drain when we are gone, however we end: their standard input is a pipe that we hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Final, NamedTuple

from redis.asyncio import Redis

from twolane import fleet
from twolane.errors import TwolaneError, WaitTimeout
from twolane.keys import Lane

READY_SECONDS: Final = 30.0
# Longer than a worker takes to end after its grace period.
EXTRA_SECONDS: Final = 15.0


class Child:
    """A process that runs one of our commands."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def stop(self, seconds: float) -> None:
        """Have it drain; kill it when that takes longer than ``seconds``."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(seconds):
                    await self.process.wait()
            except TimeoutError:
                self.kill()
        await self.process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Worker(Child):
    """A child that serves a lane."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, lane: Lane) -> None:
        super().__init__(name, process)
        self.lane: Lane = lane


async def start(
    arguments: Sequence[str], *, broker: str | None = None, pipe: bool = False
) -> asyncio.subprocess.Process:
    """Run ``python -m arguments``; with ``pipe`` its standard output can be read."""
    # By the environment, not the command line, which everyone on the machine can read.
    environ = {**os.environ, **({"TWOLANE_BROKER": broker} if broker else {})}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if pipe else None,
        env=environ,
        start_new_session=True,
    )


class Target(NamedTuple):
    """The web service that `twolane target` is, on a free port of this machine."""

    url: str
    pid: int


@contextlib.asynccontextmanager
async def target(
    latency_seconds: float = 0.05, p99_seconds: float | None = None
) -> AsyncIterator[Target]:
    """Run a web service to fetch from, for as long as the context lasts.

    Raises:
        TwolaneError: it did not start.
    """
    arguments = ["twolane", "target", "--port=0", "--with-parent", f"--latency={latency_seconds:f}"]
    if p99_seconds is not None:
        arguments.append(f"--p99={p99_seconds:f}")
    child = Child("target", await start(arguments, pipe=True))
    try:
        assert child.process.stdout is not None
        line = (await child.process.stdout.readline()).decode()
        if "http" not in line:
            raise TwolaneError("the web service to fetch from did not start; what it said is above")
        yield Target(line.split()[-1], child.process.pid)
    finally:
        await child.stop(5)


class LocalFleet:
    """Workers on this machine; an async context manager that stops them at its end."""

    def __init__(self, broker: str, options: Sequence[str] = (), grace_seconds: float = 30) -> None:
        self._broker = broker
        self._options = [*options, "--with-parent", "--grace", f"{grace_seconds:f}"]
        self._grace_seconds = grace_seconds
        self.children: list[Worker] = []

    async def __aenter__(self) -> LocalFleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, lane: Lane, *options: str) -> Worker:
        arguments = ["worker", lane, *options, *self._options]
        process = await start(arguments, broker=self._broker)
        child = Worker(f"{lane} worker", process, lane)
        self.children.append(child)
        return child

    async def wait_ready(self, client: Redis) -> None:
        """Wait until each worker has sent a heartbeat.

        Raises:
            TwolaneError: one of them ended instead.
            WaitTimeout: they were not ready within 30 s.
        """
        deadline = monotonic() + READY_SECONDS
        while True:
            heard = {beat.pid for beat in await fleet.workers(client)}
            missing = [one for one in self.children if one.process.pid not in heard]
            if not missing:
                return
            for child in missing:
                if not child.alive:
                    raise TwolaneError(
                        f"the {child.name} ended with status {child.process.returncode} before it "
                        "was ready; what it said is above"
                    )
            if monotonic() > deadline:
                raise WaitTimeout(f"the {missing[0].name} was not ready within {READY_SECONDS:g} s")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        # They stay on the list meanwhile: who loses patience can kill them.
        seconds = self._grace_seconds + EXTRA_SECONDS
        await asyncio.gather(*(one.stop(seconds) for one in self.children))
        self.children.clear()

    def kill(self) -> None:
        for child in self.children:
            child.kill()
