"""Jobs of one's own. `async def` waits, `def` computes: the function itself says where it runs.

In this folder, in one terminal:

    $ twolane up --jobs my_jobs

and in another one:

    $ twolane jobs --jobs my_jobs
    $ twolane enqueue job greet name=Ada --jobs my_jobs --count 200 --wait
    $ twolane enqueue job collatz start=837799 --jobs my_jobs --count 20 --wait
    $ twolane enqueue job addresses host=localhost --jobs my_jobs --wait
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from twolane import job


async def on_startup(ctx: dict[str, Any]) -> None:
    """Called once by an IO worker; what it puts into `ctx` its jobs find there.

    The place for what is dear to open and cheap to share: a database's pool, an HTTP session.
    """
    ctx["greeting"] = "hello"


async def on_shutdown(ctx: dict[str, Any]) -> None:
    """The place to close it again."""
    ctx.clear()


# It waits, so it is a coroutine function and runs on the IO lane: one event loop holds hundreds of
# such jobs at once. When it fails it is tried three more times, after about 0.5, 1 and 2 seconds.
@job(retries=3, backoff=0.5, timeout=30)
async def greet(ctx: dict[str, Any], name: str) -> str:
    """Greet somebody, after a wait that stands for a slow service."""
    await asyncio.sleep(0.1)
    return f"{ctx['greeting']}, {name}"


# It computes, so it is a plain function and runs on the CPU lane: a process for each core, one job
# at a time in each. Its result is kept for a day.
@job(keep_result=86_400)
def collatz(start: int) -> int:
    """Count the steps from `start` to 1: halve what is even, else triple it and add one."""
    steps = 0
    while start != 1:
        start = start // 2 if start % 2 == 0 else 3 * start + 1
        steps += 1
    return steps


# It waits as well, but by a library that blocks and cannot be awaited. It stays a plain function,
# and says that it belongs on the IO lane: there it gets a thread.
@job(lane="io", name="addresses", timeout=10)
def look_up(host: str) -> list[str]:
    """Look up the addresses of a host."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None)})
