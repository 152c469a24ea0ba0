"""Where the workers of a sweep come from: this machine, or a person."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.load_meter import OURSELVES
from producer.local import LocalFleet
from producer.models.usage import trees
from producer.submit import Call
from producer.sweep import Measure, Point, Window, lane_beats, measure_now
from twolane.broker import connect
from twolane.embedded import Embedded
from twolane.errors import BrokerUnreachable
from twolane.keys import Lane

POLL_SECONDS: Final = 0.2


@contextlib.asynccontextmanager
async def private_broker() -> AsyncIterator[tuple[Embedded, Redis]]:
    """A Valkey of our own, and a client of it.

    Raises:
        BrokerUnreachable: it was lost on the way.
    """
    server = Embedded.private()
    await asyncio.to_thread(server.start)
    try:
        client = connect(server.url)
        try:
            yield server, client
        except RedisError as error:
            raise BrokerUnreachable(
                f"the private Valkey of this command was lost on the way ({error}); run it again"
            ) from None
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
