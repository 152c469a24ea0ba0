"""A compose file's workers as a sweep has them: scaled, measured from inside, and scaled back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from producer.environment import Environment
from producer.sweep import Measure, Point, Window
from twolane.errors import BrokerError, JobsFailed, TwolaneError, UsageError, WaitTimeout
from twolane.keys import Lane

SETTLE_SECONDS: Final = 120.0
OURS: Final[dict[int, type[TwolaneError]]] = {
    1: TwolaneError, 2: UsageError, 3: BrokerError, 4: JobsFailed, 5: WaitTimeout,
}  # fmt: skip


class Service(NamedTuple):
    """A lane's service of a compose file as it was found; ``cpus`` and ``memory_bytes`` are what
    one of its containers may use, 0 where that has no bound.
    """

    name: str
    project: str
    containers: int
    cpus: float
    memory_bytes: int

    def __str__(self) -> str:
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}" if self.cpus else "any CPU"
        memory = f"{self.memory_bytes / 1024**2:.0f} MiB" if self.memory_bytes else "any memory"
        return f"{self.name} of compose project {self.project} ({cpus}, {memory} each)"


class Compose:
    """A service of a compose file that is up: scaled, measured from inside, and scaled back.

    An async context manager; at its end the service has as many containers as it was found with.
    ``machine`` is, after a measurement, what it was made on, as seen from inside.
    """

    def __init__(self, lane: Lane, job: Sequence[str], options: Sequence[str] = ()) -> None:
        self._lane = lane
        self._service = f"{lane}-worker"
        self._job = job
        self._options = options
        self.found: Service | None = None
        self.machine: Environment | None = None

    async def __aenter__(self) -> Compose:
        """Look at the service.

        Raises:
            TwolaneError: there is no Docker, no compose file here, or nothing of it is up.
        """
        containers = (await self._compose("ps", "--quiet", self._service)).split()
        everything = (await self._compose("ps", "--all", "--quiet")).split()
        if not everything:
            raise TwolaneError(
                "nothing of the compose file of this folder is up; first: docker compose up -d "
                "--build (and --project-name NAME here where it has another name)"
            )
        looked = json.loads(await self._docker("inspect", *(containers or everything[:1])))[0]
        host = looked["HostConfig"] if containers else {}
        self.found = Service(
            self._service,
            looked["Config"]["Labels"]["com.docker.compose.project"],
            len(containers),
            host.get("NanoCpus", 0) / 1e9,
            host.get("Memory", 0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Put the number of containers back, also when it was interrupted."""
        if self.found is not None:
            await _to_the_end(self._scale(self.found.containers))

    def measure(self, window: Window) -> Measure:
        async def of(count: int, round_: int) -> Point:
            await self._scale(count)
            await self._settled(count)
            found = await self._producer(
                "scale", "--as-is", f"--lane={self._lane}", f"--window={window.seconds:f}",
                f"--warm-up={window.warm_up_seconds:f}", "--json", *self._job,
            )  # fmt: skip
            self.machine = msgspec.convert(found["environment"], Environment)
            point = msgspec.convert(found["points"][0], Point)
            point.round_ = round_
            return point

        return of

    async def _scale(self, count: int) -> None:
        # The service alone: `up` without it sets all others to what the file says of them.
        await self._compose(
            "up", "--detach", "--wait", "--no-recreate", "--no-deps",
            "--scale", f"{self._service}={count}", self._service,
        )  # fmt: skip

    async def _settled(self, count: int) -> None:
        """Wait until the heartbeats are those of so many workers."""
        until = monotonic() + SETTLE_SECONDS
        while True:
            found = await self._producer("status", "--json")
            ready = [one for one in found["workers"] if one["lane"] == self._lane]
            if len(ready) == count and not any(one.get("draining") for one in ready):
                return
            if monotonic() > until:
                raise WaitTimeout(
                    f"{len(ready)} {self._lane} workers after {SETTLE_SECONDS:.0f} s, not {count}; "
                    "`docker compose ps` shows those of the compose file, `twolane status` all"
                )

    async def _producer(self, *words: str) -> Any:
        assert self.found is not None
        name = f"{self.found.project}-measures-{secrets.token_hex(4)}"
        options = ("--rm", "--no-TTY", "--no-deps", f"--name={name}")
        try:
            text = await self._compose("run", *options, "producer", *words)
        except asyncio.CancelledError:
            # What ends the client leaves the container, which would go on enqueuing.
            for command in (("kill", "--signal=INT"), ("wait",), ("rm", "--force")):
                with contextlib.suppress(TwolaneError):
                    await _to_the_end(self._docker(*command, name))
            raise
        return json.loads(text)

    async def _compose(self, *words: str) -> str:
        return await self._docker("compose", *self._options, "--ansi", "never", *words)

    async def _docker(self, *words: str) -> str:
        process: asyncio.subprocess.Process | None = None

        async def start() -> None:
            nonlocal process
            # In a session of its own: Ctrl-C reaches us, and through us what it runs.
            process = await asyncio.create_subprocess_exec(
                "docker", *words, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip

        try:
            # To its end: asyncio would kill docker alone, and wait for the plugin that it started.
            await _to_the_end(start())
            assert process is not None
            out, said = await process.communicate()
        except FileNotFoundError:
            raise TwolaneError(
                "there is no docker command; scripts/compose-check says more"
            ) from None
        except asyncio.CancelledError:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the plugin, too
                await _to_the_end(process.communicate())
            raise
        if process.returncode:
            raise _failure(words, process.returncode, said.decode(errors="replace"))
        return out.decode()


def _failure(words: Sequence[str], code: int, said: str) -> TwolaneError:
    """What a command says of its failure; twolane's own, in a container, as if it were here."""
    lines = said.strip().splitlines()
    if lines and lines[-1].startswith("Error: ") and code in OURS:
        return OURS[code](lines[-1].removeprefix("Error: "))
    last = " / ".join(lines[-3:])
    return TwolaneError(f"`docker {' '.join(words)}` ended with exit code {code}: {last}")


async def _to_the_end(work: Coroutine[Any, Any, object]) -> None:
    """Do all of it although this task is cancelled meanwhile; cancelled twice, it gives up."""
    task = asyncio.ensure_future(work)
    cancels = 0
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancels += 1
            if cancels > 1:
                task.cancel()
    task.result()
    if cancels:
        raise asyncio.CancelledError
