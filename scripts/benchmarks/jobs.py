"""The bodies of the jobs that are measured, the same for every contestant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import plan
from benchmarks.board import Board

_boards: list[Board] = []


def mark(index: int) -> None:
    if not _boards:
        _boards.append(Board(plan.current().board))
    _boards[0].mark(index)


async def noop(index: int) -> None:
    mark(index)


async def wait(index: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    mark(index)


def blocking_noop(index: int) -> None:
    mark(index)


def blocking_wait(index: int, seconds: float) -> None:
    time.sleep(seconds)
    mark(index)


def compute(index: int, loops: int) -> None:
    """The same work whatever else the machine does: a number of loops, not a time."""
    work(loops)
    mark(index)


def work(loops: int) -> int:
    value = 1
    for _ in range(loops):
        value = (value * 1_103_515_245 + 12_345) & 0x7FFFFFFF
    return value


def loops_per_millisecond(seconds: float = 0.5) -> int:
    """How many loops of `work` take a millisecond here: the best of some tries."""
    best, loops = 0.0, 20_000
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        work(loops)
        best = max(best, loops / (time.perf_counter() - began))
    return int(best / 1000)


def arguments(kind: plan.Kind, index: int, amount: float) -> tuple[Any, ...]:
    """The positional arguments of a job of a kind; ``amount`` is seconds or loops."""
    if kind == "noop":
        return (index,)
    return (index, amount if kind == "wait" else int(amount))


BLOCKING: dict[plan.Kind, Callable[..., None]] = {
    "noop": blocking_noop,
    "wait": blocking_wait,
    "compute": compute,
}


def batches(indices: range, size: int) -> Iterator[range]:
    for first in range(indices.start, indices.stop, size):
        yield range(first, min(first + size, indices.stop))
