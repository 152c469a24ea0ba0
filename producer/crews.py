"""Where the workers of a sweep come from: this machine, a compose file, or a person."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

import msgspec
import psutil
from redis.asyncio import Redis

from producer.load_meter import OURSELVES
from producer.local import LocalFleet
from producer.models.usage import trees
from producer.submit import Call
from producer.sweep import Measure, Point, Window, lane_beats, measure_now
from twolane.broker import connect
from twolane.embedded import Embedded
from twolane.errors import TwolaneError, WaitTimeout
from twolane.keys import Lane

POLL_SECONDS: Final = 0.2
COMPOSE_SECONDS: Final = 120.0


@contextlib.asynccontextmanager
async def private_broker() -> AsyncIterator[tuple[Embedded, Redis]]:
    """A Valkey of our own, and a client of it."""
    server = Embedded.private()
    await asyncio.to_thread(server.start)
    try:
        client = connect(server.url)
        try:
            yield server, client
        finally:
            await client.aclose()
    finally:
        await asyncio.to_thread(server.stop)


class Local:
    """Fresh workers on this machine for each measurement, on one private broker."""

    def __init__(
        self,
        server: Embedded,
        client: Redis,
        lane: Lane,
        options: Sequence[str],
        others: Mapping[str, Sequence[psutil.Process]],
    ) -> None:
        self._server = server
        self._client = client
        self._lane: Lane = lane
        self._options = options
        self._others = others

    def measure(self, call: Call, window: Window) -> Measure:
        async def of(count: int, round_: int) -> Point:
            async with LocalFleet(self._server.url, self._options, grace_seconds=2) as workers:
                for _ in range(count):
                    await workers.start(self._lane)
                await workers.wait_ready(self._client)
                processes = {
                    "workers": trees(one.process.pid for one in workers.children),
                    OURSELVES: [psutil.Process()],
                    **self._others,
                }
                point = await measure_now(self._client, call, window, round_, processes)
            await self._client.flushall()
            return point

        return of


class Compose:
    """The services of a compose file: ``docker compose up --scale``, measured from inside."""

    def __init__(self, lane: Lane, job: Sequence[str], options: Sequence[str] = ()) -> None:
        self._lane = lane
        self._job = job
        self._options = options

    def measure(self, window: Window) -> Measure:
        async def of(count: int, round_: int) -> Point:
            scale = f"{self._lane}-worker={count}"
            await self._compose("up", "--detach", "--wait", "--no-recreate", "--scale", scale)
            await self._settled(count)
            found = await self._producer(
                "scale", "--as-is", f"--lane={self._lane}", f"--window={window.seconds:f}",
                f"--warm-up={window.warm_up_seconds:f}", "--json", *self._job,
            )  # fmt: skip
            point = msgspec.convert(found["points"][0], Point)
            point.round_ = round_
            return point

        return of

    async def _settled(self, count: int) -> None:
        """Wait until the heartbeats are those of so many workers."""
        until = monotonic() + COMPOSE_SECONDS
        while True:
            found = await self._producer("status", "--json")
            ready = [one for one in found["workers"] if one["lane"] == self._lane]
            if len(ready) == count and not any(one.get("draining") for one in ready):
                return
            if monotonic() > until:
                raise WaitTimeout(
                    f"{len(ready)} {self._lane} workers after {COMPOSE_SECONDS:.0f} s, not {count}"
                )

    async def _producer(self, *words: str) -> Any:
        text = await self._compose("run", "--rm", "--no-TTY", "--no-deps", "producer", *words)
        return json.loads(text)

    async def _compose(self, *words: str) -> str:
        command = ["docker", "compose", *self._options, "--ansi", "never", *words]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError:
            raise TwolaneError(
                "there is no docker command; scripts/compose-check says more"
            ) from None
        out, said = await process.communicate()
        if process.returncode:
            last = " / ".join(said.decode(errors="replace").strip().splitlines()[-3:])
            raise TwolaneError(
                f"`{' '.join(command)}` ended with exit code {process.returncode}: {last}"
            )
        return out.decode()


class Manual:
    """A fleet that a person scales, on any number of machines: waits until the count is right."""

    def __init__(self, client: Redis, lane: Lane, ask: Callable[[str], None]) -> None:
        self._client = client
        self._lane: Lane = lane
        self._ask = ask

    def measure(self, call: Call, window: Window) -> Measure:
        async def of(count: int, round_: int) -> Point:
            await self._wait(count)
            return await measure_now(self._client, call, window, round_)

        return of

    async def _wait(self, count: int) -> None:
        asked: int | None = None
        while True:
            there = len(await lane_beats(self._client, self._lane))
            if there == count:
                return
            if there != asked:
                change = f"start {count - there} more" if there < count else f"stop {there - count}"
                self._ask(
                    f"{there} of {count} {self._lane} workers are here: {change} "
                    f"(`twolane worker {self._lane}`); Ctrl-C gives up"
                )
                asked = there
            await asyncio.sleep(POLL_SECONDS)
