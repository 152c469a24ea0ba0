"""Jobs that run in a pool, and what can be seen of its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from twolane import wire
from worker.pool import Pool, Run

MODULES = ["tests.worker.pool_jobs"]


def submit(pool: Pool, name: str, *args: Any, timeout: float | None = None, **kwargs: Any) -> Run:
    return pool.run(name, wire.dumps([args, kwargs]), timeout)


async def result(pool: Pool, name: str, *args: Any, **kwargs: Any) -> Any:
    ran = await submit(pool, name, *args, **kwargs)
    assert ran.ok, ran.error
    return wire.loads(ran.result)


async def failure(pool: Pool, name: str, *args: Any) -> wire.ErrorRecord:
    ran = await submit(pool, name, *args)
    assert not ran.ok
    assert ran.result == b""
    assert ran.error is not None
    return ran.error


async def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what happens, happens in other processes)
            await asyncio.sleep(0.005)


async def noted(path: Path) -> list[int]:
    """The process ids that a job wrote when it had come that far."""
    await wait_until(path.exists)
    return _pids(path)


def _pids(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
