"""One job as each thread, process or interpreter has it: loaded, with a loop and a context."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twolane import wire
from twolane.arguments import Signature
from twolane.registry import Hook, Registry


class Call:
    """A job with its arguments, ready to be called again and again in this thread.

    A coroutine function has an event loop of the thread's own, kept from call to call, and the
    context that the modules' ``on_startup`` filled for it; so each thread has connections of its
    own, as each worker has.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._registry = Registry.load(order["modules"])
        self._job = self._registry[order["job"]]
        signature = Signature(self._job)
        args, kwargs = signature.receive(order["args"], order["kwargs"])
        self._args, self._kwargs = tuple(args), dict(kwargs)
        self._ctx: dict[str, Any] = {
            "files_roots": (Path.cwd(),),
            "database_url": os.environ.get("TWOLANE_DATABASE_URL"),
            "job_id": "compared", "job_try": 1, "enqueue_time": None, "score": 0,
        }  # fmt: skip
        self.is_coroutine = self._job.is_coroutine
        self.runner = asyncio.Runner()

    def open(self) -> None:
        if self._job.lane == "io":
            self.runner.run(self.start())

    def close(self) -> None:
        if self._job.lane == "io":
            self.runner.run(self._hooks(self._registry.shutdown_hooks))
        self.runner.close()

    async def start(self) -> None:
        await self._hooks(self._registry.startup_hooks)

    async def _hooks(self, hooks: list[Hook]) -> None:
        for hook in hooks:
            found = hook(self._ctx)
            if inspect.isawaitable(found):
                await found

    def call(self) -> Any:
        """Call the function: its result, or the coroutine that a coroutine function makes."""
        if self._job.wants_ctx:
            return self._job.function(self._ctx, *self._args, **self._kwargs)
        return self._job.function(*self._args, **self._kwargs)

    def once(self) -> str:
        """Run it to its end; what went wrong, or ""."""
        try:
            if self.is_coroutine:
                self.runner.run(_awaited(self.call()))
            else:
                self.call()
        except Exception as error:  # whatever the job raises is what is counted
            return described(error)
        return ""


async def _awaited(coroutine: Awaitable[Any]) -> Any:
    return await coroutine


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


# What a pool's thread or process keeps between its tasks; a pool takes functions by name alone.
_mine = threading.local()
_calls: list[Call] = []


def begin(order: bytes) -> None:
    """Load the job in this thread, process or interpreter; a pool's initializer."""
    _mine.call = Call(wire.loads(order))
    _mine.call.open()
    _calls.append(_mine.call)


def once() -> str:
    """Run this thread's job once."""
    call: Call = _mine.call
    return call.once()


def end() -> None:
    """Close what the threads of this process have opened, once they are at an end."""
    while _calls:
        _calls.pop().close()
