"""The work that is run in each way: one job with its arguments, so many times."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from twolane import wire
from twolane.keys import Lane

ONE: Final = "one at a time"
THREADS: Final = "threads"
FREE_THREADS: Final = "free-threaded threads"
ASYNCIO: Final = "asyncio"
PROCESSES: Final = "processes"
INTERPRETERS: Final = "sub-interpreters"
WORKERS: Final = "twolane workers"
MODELS: Final = (ONE, THREADS, FREE_THREADS, ASYNCIO, PROCESSES, INTERPRETERS, WORKERS)


def available() -> dict[str, str]:
    """Each way to run work, with why this Python does not have it, or "" where it does."""
    version = f"CPython {sys.version_info.major}.{sys.version_info.minor}"
    missing = dict.fromkeys(MODELS, "")
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        missing[FREE_THREADS] = f"this {version} is no free-threaded build"
    if not hasattr(futures, "InterpreterPoolExecutor"):
        missing[INTERPRETERS] = f"{version} has none: InterpreterPoolExecutor came with 3.14"
    return missing


@dataclass(frozen=True)
class Work:
    """``count`` runs of a job. ``at_once`` is for the ways that wait, ``cores`` for those that
    compute: threads get as many as the lane asks for, processes and interpreters one a core.
    """

    job: str
    lane: Lane
    modules: tuple[str, ...]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    count: int
    at_once: int
    cores: int
    is_coroutine: bool

    def width(self, model: str) -> int:
        """How many jobs run at once at the most, in that way."""
        if model == ONE or (model == ASYNCIO and not self.is_coroutine):
            return 1
        if model in (PROCESSES, INTERPRETERS) or self.lane == "cpu":
            return self.cores
        return self.at_once

    def order(self, model: str) -> bytes:
        return wire.dumps(
            {
                "model": model, "job": self.job, "modules": list(self.modules),
                "args": list(self.args), "kwargs": dict(self.kwargs), "count": self.count,
                "width": self.width(model),
            }
        )  # fmt: skip


class Measurement(msgspec.Struct):
    """One run of the work in one way. ``cores`` is CPU seconds over ``wall``, all processes in.

    ``longest_block`` is the longest time that the one event loop did not look for news, None where
    no loop is shared. ``failed`` counts jobs that raised; ``error`` is the first of it, or why
    nothing could be measured (``wall`` is 0 then).
    """

    wall: float = 0.0
    cpu_seconds: float = 0.0
    longest_block: float | None = None
    failed: int = 0
    error: str = ""

    @property
    def cores(self) -> float:
        return self.cpu_seconds / self.wall if self.wall else 0.0
