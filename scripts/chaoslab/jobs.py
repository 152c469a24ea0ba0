"""The jobs of the harness: each writes its start and its effect into the ledger.

``key`` is the job's own id, which the harness chooses: a job of the CPU lane has no context that
would tell it. What a job does before it is over can be held up by a file that the harness makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from chaoslab import ledger
from twolane import job
from twolane.registry import Backoff

AT_ONCE = Backoff(base=0.01, factor=1.0)
POLL_SECONDS = 0.005


def _try(ctx: dict[str, Any]) -> int:
    return int(ctx["job_try"])


def _exists(path: str) -> bool:
    return Path(path).exists()


# -- IO lane ---------------------------------------------------------------------------------------


async def _once(ctx: dict[str, Any], key: str, waiting: Awaitable[None]) -> str:
    """Wait, then have an effect; a cancellation is written down."""
    ledger.write("start", key, _try(ctx))
    try:
        await waiting
    except asyncio.CancelledError:
        ledger.write("cancelled", key, _try(ctx))
        raise
    ledger.write("effect", key, _try(ctx))
    return key


async def _appearance(path: str) -> None:
    while not _exists(path):  # noqa: ASYNC110  (another process makes the file)
        await asyncio.sleep(POLL_SECONDS)


@job
async def nap(ctx: dict[str, Any], key: str, seconds: float) -> str:
    """Wait, then have an effect."""
    return await _once(ctx, key, asyncio.sleep(seconds))


@job
async def hold(ctx: dict[str, Any], key: str, go: str) -> str:
    """Wait until there is a file ``go``, then have an effect."""
    return await _once(ctx, key, _appearance(go))


@job
async def tell_the_time(ctx: dict[str, Any], key: str) -> float:
    """The wall clock of its worker, s."""
    await _once(ctx, key, asyncio.sleep(0))
    return time.time()


@job
async def block_the_loop(ctx: dict[str, Any], key: str, seconds: float) -> str:
    ledger.write("start", key, _try(ctx))
    time.sleep(seconds)  # noqa: ASYNC251  (what a job should not do)
    ledger.write("effect", key, _try(ctx))
    return key


@job(timeout=0.3)
async def swallow_cancellation(ctx: dict[str, Any], key: str) -> None:
    ledger.write("start", key, _try(ctx))
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


@job
async def kill_own_worker(ctx: dict[str, Any], key: str) -> None:
    """What a fault in a C extension does to an IO worker."""
    ledger.write("start", key, _try(ctx))
    os.kill(os.getpid(), signal.SIGKILL)


@job
async def give_back(ctx: dict[str, Any], key: str, size: int) -> bytes:
    """Return so many bytes."""
    ledger.write("start", key, _try(ctx))
    ledger.write("effect", key, _try(ctx))
    return bytes(size)


@job(retries=1000, backoff=AT_ONCE)
async def always_fail(ctx: dict[str, Any], key: str) -> None:
    ledger.write("start", key, _try(ctx))
    raise ValueError("as always")


@job(retries=6, backoff=AT_ONCE)
async def fail_twice(ctx: dict[str, Any], key: str) -> str:
    ledger.write("start", key, _try(ctx))
    await asyncio.sleep(0.05)
    if _try(ctx) < 3:
        raise ValueError(f"at try {_try(ctx)}")
    ledger.write("effect", key, _try(ctx))
    return key


# -- CPU lane --------------------------------------------------------------------------------------


@job
def compute(key: str, seconds: float) -> str:
    """Compute for so many CPU seconds, then have an effect."""
    ledger.write("start", key)
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    ledger.write("effect", key)
    return key


@job
def hold_a_process(key: str, go: str) -> str:
    """Wait until there is a file ``go``, then have an effect."""
    ledger.write("start", key)
    while not Path(go).exists():
        time.sleep(POLL_SECONDS)
    ledger.write("effect", key)
    return key


@job
def hold_a_result(key: str, go: str, size: int) -> bytes:
    """Wait until there is a file ``go``, then return so many bytes."""
    hold_a_process(key, go)
    return bytes(size)


@job
def echo(key: str, data: bytes, seconds: float) -> bytes:
    """Return what came, after a while."""
    ledger.write("start", key)
    time.sleep(seconds)
    ledger.write("effect", key)
    return data


@job
def zeros(key: str, size: int) -> bytes:
    ledger.write("start", key)
    ledger.write("effect", key)
    return bytes(size)


@job
def segfault(key: str) -> None:
    ledger.write("start", key)
    ctypes.string_at(0)


@job
def leave_at_once(key: str) -> None:
    ledger.write("start", key)
    os._exit(0)


@job
def exit_python(key: str) -> None:
    ledger.write("start", key)
    sys.exit(0)


@job(timeout=0.5)
def loop_in_python(key: str) -> None:
    ledger.write("start", key)
    while True:
        pass


@job(timeout=0.5)
def loop_in_c(key: str) -> int:
    ledger.write("start", key)
    return sum(range(10**12))  # one C loop that never lets go of the GIL


@job
def swell(key: str) -> int:
    """Take memory without end, 16 MiB at a time."""
    ledger.write("start", key)
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20) * 16))
        time.sleep(0.005)


@job
def unencodable(key: str) -> object:
    ledger.write("start", key)
    return object()


@job(timeout=1.0)
def fork_bomb(key: str, children: int) -> None:
    """Start child processes, each of which starts one more; all would live for ten minutes."""
    ledger.write("start", key)
    for _ in range(children):
        subprocess.Popen(["sh", "-c", "sleep 600 & exec sleep 600"], close_fds=True)
    time.sleep(600)


@job
def kill_own_process(key: str) -> None:
    ledger.write("start", key)
    os.kill(os.getpid(), signal.SIGKILL)
