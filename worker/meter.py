"""Measures one IO job by stepping its coroutine: its CPU seconds and its longest hold of the loop.

What is measured is the job's own coroutine, with all that it awaits directly. Tasks that it starts
of its own (``asyncio.gather`` makes some) run beside it and are not seen.
"""

from __future__ import annotations

import os
import types
from collections.abc import Coroutine, Generator
from time import perf_counter, thread_time
from typing import Any

# How often this process, or one that it is a copy of, was forked: cheaper to ask than its id.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class JobExited(Exception):
    """A job called ``sys.exit`` or raised ``KeyboardInterrupt``; asyncio would end the worker."""


class Meter:
    """What one job has used so far. ``blocked_at`` is filled by the watching thread."""

    __slots__ = ("blocked_at", "cpu_seconds", "longest_hold", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.cpu_seconds = 0.0
        self.longest_hold = 0.0
        self.blocked_at: str | None = None


class Gauge:
    """Who holds the event loop now, for the watching thread: written each step, never locked.

    A reader may see a meter of one step with the beginning of the next; it looks twice before it
    believes anything. ``forks`` tells the process whose loop it is from copies of it.
    """

    __slots__ = ("began", "current", "forks")

    def __init__(self) -> None:
        self.forks = _forks
        self.current: Meter | None = None
        self.began = 0.0


@types.coroutine
def stepped(
    coroutine: Coroutine[Any, Any, Any], meter: Meter, gauge: Gauge
) -> Generator[Any, Any, Any]:
    """Run ``coroutine`` to its end, metering every step; costs about 2 µs a step.

    Cancellation is thrown into the coroutine as usual. A copy of the process that a step forked
    ends with the step: it would run the worker's other jobs, on the worker's own connections.
    """
    send, throw = coroutine.send, coroutine.throw
    value: Any = None
    thrown: BaseException | None = None
    while True:
        gauge.current = meter
        cpu = thread_time()
        gauge.began = began = perf_counter()
        try:
            awaited = send(value) if thrown is None else throw(thrown)
        except StopIteration as stop:
            return stop.value
        except (SystemExit, KeyboardInterrupt) as error:
            raise JobExited(f"{type(error).__name__}({error})") from error
        finally:
            if _forks != gauge.forks:
                os._exit(0)
            hold = perf_counter() - began
            gauge.current = None
            meter.cpu_seconds += thread_time() - cpu
            if hold > meter.longest_hold:
                meter.longest_hold = hold
        value = thrown = None
        try:
            value = yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # whatever it is, it is the job's to see
            thrown = error


async def metered(coroutine: Coroutine[Any, Any, Any], meter: Meter, gauge: Gauge) -> Any:
    """:func:`stepped` as a coroutine, which is what a task takes."""
    return await stepped(coroutine, meter, gauge)
