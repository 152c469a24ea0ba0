"""Measures work in every way, in interleaved rounds, and puts the ways side by side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median

import msgspec

from producer.models.work import FREE_THREADS, MODELS, ONE, WORKERS, Measurement, Work
from producer.ratios import Ratio, paired
from producer.submit import Call
from twolane.errors import TwolaneError

Measure = Callable[[Work, str], Awaitable[Measurement]]
Measured = dict[str, list[Measurement | None]]  # by way, one a round; None where there is none


class Way(msgspec.Struct):
    """What one way made of the work: medians over the rounds, ``walls`` has each of them.

    ``speedup`` is over one at a time, ``missing`` why there are no figures.
    """

    model: str
    width: int = 0
    wall: float = 0.0
    throughput: float = 0.0
    speedup: Ratio | None = None
    cores: float = 0.0
    longest_block: float | None = None
    failed: int = 0
    error: str = ""
    missing: str = ""
    walls: list[float] = []


class Compared(msgspec.Struct):
    """One piece of work in every way; ``usable_cores`` is how many it could have."""

    job: str
    lane: str
    is_coroutine: bool
    count: int
    usable_cores: int
    rounds: int
    ways: list[Way]

    def way(self, model: str) -> Way | None:
        """That way, if it was measured."""
        return next((one for one in self.ways if one.model == model and not one.missing), None)


async def in_rounds(
    works: Sequence[Work],
    models: Sequence[str],
    rounds: int,
    measure: Measure,
    draw: random.Random,
    on_progress: Callable[[int, int, str], None] = lambda done, of, what: None,
    into: list[Measured] | None = None,
) -> list[Measured]:
    """Measure each work in each way once a round, each round in an order of its own.

    So what changes slowly on the machine meets every way alike. A way that could not be measured
    is not tried again. ``into`` gets the measurements as they come: what there is of them when it
    is cut off.
    """
    measured: list[Measured] = [] if into is None else into
    measured += [defaultdict(list) for _ in works]
    broken: set[tuple[int, str]] = set()
    done = 0
    for _ in range(rounds):
        order = [(index, model) for index in range(len(works)) for model in models]
        draw.shuffle(order)
        for index, model in order:
            on_progress(done, rounds * len(order), f"{works[index].job}: {model}")
            found = None
            if (index, model) not in broken:
                found = await measure(works[index], model)
                if not found.wall:
                    broken.add((index, model))
            measured[index][model].append(found)
            done += 1
    on_progress(done, done, "")
    return measured


def complete(measured: Sequence[Measured], models: Sequence[str]) -> tuple[list[Measured], int]:
    """What was cut off as far as all its rounds are whole, and how many those are.

    Where not one is, all that there is of the first.
    """
    whole = min(len(one.get(model) or ()) for one in measured for model in models)
    if not whole:
        return [dict(one) for one in measured], 0
    return [{model: found[:whole] for model, found in one.items()} for one in measured], whole


async def in_a_process(work: Work, model: str) -> Measurement:
    """Measure one way in a fresh process: what it leaves behind ends with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *_interpreter_options(model), "-m", "producer.models.arena",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        answer, _ = await process.communicate(work.order(model))
    finally:
        # A pool's processes outlive the one that was to end them, when that is killed or exits.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if not answer:
        return Measurement(error=f"its process ended with status {process.returncode}")
    return msgspec.json.decode(answer, type=Measurement)


def _interpreter_options(model: str) -> list[str]:
    """In a free-threaded build, whether the interpreter lock is on is chosen by the way."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    return ["-X", f"gil={0 if model == FREE_THREADS else 1}"]


def measurer(calls: Mapping[int, Call]) -> Measure:
    """How to measure any way; ``calls`` has each work's call, by the work's ``id``."""

    async def measure(work: Work, model: str) -> Measurement:
        if model == WORKERS:
            from producer.models import workers

            try:
                return await workers.measure(work, calls[id(work)])
            except TwolaneError as error:
                return Measurement(error=str(error))
        return await in_a_process(work, model)

    return measure


def side_by_side(
    work: Work, measured: Measured, missing: Mapping[str, str], rounds: int
) -> Compared:
    """The table of one piece of work; ``missing`` has the ways that this Python lacks."""
    base = measured.get(ONE, [])
    ways = [
        _way(work, model, measured[model], base)
        if model in measured
        else Way(model=model, missing=missing.get(model) or "not asked for")
        for model in MODELS
    ]
    return Compared(work.job, work.lane, work.is_coroutine, work.count, work.cores, rounds, ways)


def _way(
    work: Work,
    model: str,
    found: Sequence[Measurement | None],
    base: Sequence[Measurement | None],
) -> Way:
    good = [one for one in found if one is not None and one.wall]
    if not good:
        error = next((one.error for one in found if one is not None), "not measured")
        return Way(model=model, missing=error)
    wall = median(one.wall for one in good)
    blocks = [one.longest_block for one in good if one.longest_block is not None]
    pairs = [
        (one.wall, ours.wall)
        for one, ours in zip(base, found, strict=False)
        if one is not None and ours is not None and one.wall and ours.wall
    ]
    speedup = None
    if pairs and model != ONE:
        speedup = paired([first for first, _ in pairs], [second for _, second in pairs])
    return Way(
        model=model,
        width=work.width(model),
        wall=wall,
        throughput=work.count / wall,
        speedup=speedup,
        cores=median(one.cores for one in good),
        longest_block=max(blocks, default=None),
        failed=sum(one.failed for one in good),
        error=next((one.error for one in good if one.error), ""),
        walls=[one.wall for one in good],
    )
