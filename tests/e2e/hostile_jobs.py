"""Jobs that would take their worker with them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from twolane import job


@job
async def add(left: int, right: int) -> int:
    return left + right


@job(timeout=0.2)
async def never_lets_go() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


@job
async def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  (what a job should not do)


@job
async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)


@job
async def interrupt_from_a_task() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    await asyncio.create_task(interrupt())


class Hostile(type):
    @property
    def __name__(cls) -> Any:
        raise RuntimeError("no name for you")


class Nameless(Exception, metaclass=Hostile):
    pass


@job
async def raise_without_a_name() -> None:
    raise Nameless("all the same")
