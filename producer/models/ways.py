"""Runs work in one way, in this process, after a warm-up.

Each way gets what it needs before the clock starts: threads, processes and loops are there, modules
loaded, connections open.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import selectors
from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures import Executor
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any

from producer.models import call
from producer.models.call import Call, described
from producer.models.usage import cpu_seconds
from producer.models.work import (
    ASYNCIO,
    FREE_THREADS,
    INTERPRETERS,
    ONE,
    PROCESSES,
    THREADS,
    Measurement,
)
from twolane import wire

Run = Callable[[int], Iterable[str]]  # runs so many jobs; what went wrong with each, or ""


def measure(data: bytes) -> Measurement:
    """Carry out an order (see ``Work.order``)."""
    order = wire.loads(data)
    model, width = order["model"], order["width"]
    if model == ONE:
        return _one_at_a_time(order)
    if model == ASYNCIO:
        return _asyncio(order, width)
    with _pool(model, data, width) as pool:
        measured = _timed(partial(_pooled, pool), order["count"], width)
    if model in (THREADS, FREE_THREADS):
        call.end()
    return measured


def _timed(run: Run, count: int, warm_up: int) -> Measurement:
    list(run(warm_up))
    cpu, began = cpu_seconds(), perf_counter()
    faults = [one for one in run(count) if one]
    wall = perf_counter() - began
    spent = cpu_seconds(at_end=True) - cpu
    return Measurement(
        wall=wall,
        cpu_seconds=spent,
        failed=len(faults),
        error=faults[0] if faults else "",
    )


def _one_at_a_time(order: dict[str, Any]) -> Measurement:
    """A coroutine function by awaiting one call after the other, in one loop."""
    mine = Call(order)
    mine.open()

    async def awaited(count: int) -> list[str]:
        return [await _settled(mine) for _ in range(count)]

    def run(count: int) -> list[str]:
        if mine.is_coroutine:
            return mine.runner.run(awaited(count))
        return [mine.once() for _ in range(count)]

    measured = _timed(run, order["count"], warm_up=1)
    mine.close()
    return measured


def _asyncio(order: dict[str, Any], width: int) -> Measurement:
    """All jobs on one loop, ``width`` at once; a plain function is called inside of the loop."""
    watched = WatchedSelector()
    mine = Call(order)
    mine.runner = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(watched))
    mine.open()

    async def one_of(numbers: Iterable[int]) -> list[str]:
        return [await _settled(mine) for _ in numbers]

    async def gathered(count: int) -> list[str]:
        shared = iter(range(count))  # each task takes the next one until none is left
        found = await asyncio.gather(*(one_of(shared) for _ in range(width)))
        return list(chain.from_iterable(found))

    def run(count: int) -> list[str]:
        watched.restart()
        return mine.runner.run(gathered(count))

    measured = _timed(run, order["count"], warm_up=width)
    measured.longest_block = watched.longest
    mine.close()
    return measured


async def _settled(mine: Call) -> str:
    try:
        if mine.is_coroutine:
            await mine.call()
        else:
            mine.call()
    except Exception as error:  # whatever the job raises is what is counted
        return described(error)
    return ""


def _pool(model: str, data: bytes, width: int) -> Executor:
    """An executor whose threads, processes or interpreters have each loaded the job."""
    if model in (THREADS, FREE_THREADS):
        return futures.ThreadPoolExecutor(width, initializer=call.begin, initargs=(data,))
    if model == PROCESSES:
        # Never by fork from a process that may have threads.
        method = (
            "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        )
        context = multiprocessing.get_context(method)
        return futures.ProcessPoolExecutor(
            width, mp_context=context, initializer=call.begin, initargs=(data,)
        )
    if model == INTERPRETERS:
        # CPython 3.14 has it; mypy reads for 3.11.
        made: Executor = futures.InterpreterPoolExecutor(  # type: ignore[attr-defined,unused-ignore]
            width, initializer=call.begin, initargs=(data,)
        )
        return made
    raise ValueError(f"no way to run work is named {model!r}")


def _pooled(pool: Executor, count: int) -> list[str]:
    return [one.result() for one in [pool.submit(call.once) for _ in range(count)]]


class WatchedSelector(selectors.DefaultSelector):
    """Notes the longest time between two looks for news: for so long the loop was held.

    All that the loop runs between two looks counts as one hold, as a newcomer waits for all of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.restart()

    def restart(self) -> None:
        self.longest = 0.0
        self._returned = perf_counter()

    def select(self, timeout: float | None = None) -> Any:
        self.longest = max(self.longest, perf_counter() - self._returned)
        found = super().select(timeout)
        self._returned = perf_counter()
        return found
