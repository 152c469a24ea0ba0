"""A web service of known latency, for fetch jobs to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from aiohttp import web

# Connections that wait to be accepted: a fleet of workers opens all of its own at once.
BACKLOG: Final = 4096
# A client that does not read keeps its connection for no longer.
HANG_UP_SECONDS: Final = 0.2
# What a standard normal variable exceeds in 1 of 100 cases: its 0.99 quantile.
Z99: Final = 2.3263478740408408


@dataclass
class Stats:
    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    errors: int = 0


class Latency:
    """Seconds to wait before each answer: ``median``, or spread around it where there is a ``p99``.

    The spread is log-normal, as a service's times are never negative and have a long tail: for
    median m and standard normal Z, m * exp(sigma * Z) exceeds p99 in 1 of 100 cases if
    sigma = ln(p99 / m) / z99, with z99 = 2.326… the normal 0.99 quantile (Johnson, Kotz and
    Balakrishnan, *Continuous Univariate Distributions* 1, 1994, ch. 14).

    Raises:
        ValueError: ``p99`` is less than ``median``, or ``median`` is 0 with a ``p99``.
    """

    def __init__(self, median: float, p99: float | None, draw: random.Random) -> None:
        if p99 is not None and not 0 < median <= p99:
            raise ValueError(
                f"a latency of {median:g} s with a 99th percentile of {p99:g} s; "
                "the latency must be more than 0, and at most that percentile"
            )
        self.median = median
        self.sigma = 0.0 if p99 is None else math.log(p99 / median) / Z99
        self._draw = draw

    def seconds(self) -> float:
        if not self.sigma:
            return self.median
        return self.median * math.exp(self.sigma * self._draw.gauss(0.0, 1.0))


class Target:
    """Answers any path with 200 and ``body`` after the latency, and with 500 at ``error_rate``.

    At most ``capacity`` requests are served at once, where it is given: the others wait for their
    turn, and their latency begins then. ``/healthz`` and ``/stats`` answer at once, and are not
    counted. With a seed, the n-th request
    to arrive gets the same latency and outcome in every run.
    """

    def __init__(
        self,
        latency: float,
        p99: float | None = None,
        error_rate: float = 0.0,
        body_size: int = 1000,
        seed: int | None = None,
        capacity: int | None = None,
    ) -> None:
        self.stats = Stats()
        self._draw = random.Random(seed)
        self._latency = Latency(latency, p99, self._draw)
        self._error_rate = error_rate
        self._body = b"x" * body_size
        self._room: asyncio.Semaphore | contextlib.nullcontext[None] = (
            asyncio.Semaphore(capacity) if capacity else contextlib.nullcontext()
        )

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/healthz":
            return web.Response(text="ok\n")
        if request.path == "/stats":
            return web.json_response(asdict(self.stats))
        seconds = self._latency.seconds()
        fails = self._draw.random() < self._error_rate
        stats = self.stats
        stats.requests += 1
        stats.in_flight += 1
        stats.peak_in_flight = max(stats.peak_in_flight, stats.in_flight)
        try:
            async with self._room:
                if seconds > 0:
                    await asyncio.sleep(seconds)
        finally:
            stats.in_flight -= 1
        if fails:
            stats.errors += 1
            return web.Response(status=500, text="an error, as --error-rate asks for\n")
        return web.Response(body=self._body)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host``'s first address and ``port`` (0: any free one).

    One address only, so that there is one port to name also where a host has several.

    Raises:
        OSError: the host is unknown, or the port is taken or not allowed.
    """
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _follow_parent(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    while os.read(0, 1024):
        pass
    with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
        loop.call_soon_threadsafe(stopping.set)


async def serve(
    target: Target, bound: socket.socket, ready: Callable[[str], None], with_parent: bool = False
) -> None:
    """Answer on ``bound`` until SIGINT or SIGTERM; ``ready`` gets the URL once it accepts.

    ``with_parent`` is for a service that another process started with a pipe as standard input: it
    ends when that process does, however it ends.

    The signal ends it at once: requests that still wait get no answer.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    if with_parent:
        threading.Thread(target=_follow_parent, args=(loop, stopping), daemon=True).start()
    # The low-level server: one handler for any path needs no router. For the shutdown's timeout, 0
    # would mean to wait for ever.
    server = web.Server(target.answer)
    runner = web.ServerRunner(server, shutdown_timeout=0.01)
    await runner.setup()
    site = web.SockSite(runner, bound, backlog=BACKLOG)
    try:
        await site.start()
        ready(url_of(bound))
        await stopping.wait()
        await site.stop()
        await _hang_up(server)
    finally:
        with contextlib.suppress(TimeoutError):
            await runner.cleanup()


async def _hang_up(server: web.Server) -> None:
    """End all connections and what is done for them.

    aiohttp's own shutdown waits for each request for a time; one that is answered in the very
    moment in which that is over raises an InvalidStateError in there, up to aiohttp 3.14 at least.
    """
    server.handler_cancellation = True
    for connection in server.connections:
        if connection.transport is not None:
            connection.transport.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANG_UP_SECONDS):
            while server.connections:  # noqa: ASYNC110 (nothing tells of their end)
                await asyncio.sleep(0.001)
