"""The jobs, as twolane's users write them."""

from __future__ import annotations

from benchmarks import jobs
from twolane import job


@job
async def noop(index: int) -> None:
    jobs.mark(index)


@job
async def wait(index: int, seconds: float) -> None:
    await jobs.wait(index, seconds)


@job
def compute(index: int, loops: int) -> None:
    jobs.compute(index, loops)
