"""Who is measured: one module each, all with the interface of `Peer`.

A module is imported in its contestant's own environment only. ``NAME.in`` says what is installed
there, ``NAME.txt`` is that with exact versions and hashes (`scripts/benchmarks/lock` writes it).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.plan import Kind, Plan

T = TypeVar("T")


class Producer(Protocol):
    """Enqueues jobs; a pool without a queue runs them at once."""

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        """Return when the broker has them all (a pool: when all have run)."""

    def close(self) -> None: ...


class AsyncProducer:
    """A producer whose library is asynchronous: all of it runs in one event loop."""

    def __init__(self) -> None:
        import uvloop  # those without an event loop have it not

        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.runner.get_loop()

    async def put(self, kind: Kind, indices: range, amount: float) -> None:
        """What :meth:`enqueue` does, for a loop that runs already."""
        raise NotImplementedError

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        self.runner.run(self.put(kind, indices, amount))


class Peer(Protocol):
    """A module of this package."""

    PACKAGES: tuple[str, ...]

    def settings(self, plan: Plan) -> str:
        """What is set, in one line, for people."""

    def serve(self, plan: Plan) -> None:
        """Be a worker until SIGTERM. Not called for a pool without a queue."""

    def Producer(self, plan: Plan) -> Producer:  # noqa: N802 # a class of the module
        """What enqueues, connected."""


def become(command: str, *arguments: str | int) -> None:
    """Become a command of this environment, as its users start it."""
    path = Path(sys.executable).with_name(command)
    os.execv(path, [str(path), *map(str, arguments)])


async def send_all(
    send: Callable[[int], Awaitable[Any]], indices: range, senders: int = 32
) -> None:
    """Await ``send`` for each index, from so many tasks at once; for peers without a bulk call."""
    left = iter(indices)
    if len(indices) < senders:
        senders = len(indices)

    async def sender() -> None:
        for index in left:
            await send(index)

    await asyncio.gather(*(sender() for _ in range(senders)))
