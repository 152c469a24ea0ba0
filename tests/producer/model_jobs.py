"""Jobs of the tests of the ways to run work; ``mark`` is a file that gets a letter a call."""

from __future__ import annotations

import asyncio
import os
import time

from twolane import job


def _note(mark: str) -> None:
    if mark:
        with open(mark, "a") as file:
            file.write("x")


@job
async def await_a_little(mark: str = "") -> None:
    _note(mark)
    await asyncio.sleep(0.002)


@job(lane="io")
def wait_a_little(mark: str = "") -> None:
    _note(mark)
    time.sleep(0.002)


@job
def compute_a_little(mark: str = "") -> int:
    _note(mark)
    return sum(range(1000))


@job
def print_a_little() -> None:
    print("{not json")


@job
def exit_at_once() -> None:
    os._exit(7)


@job
def compute_for_ever(mark: str) -> None:
    with open(mark, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(3600)


@job
def fail_always() -> None:
    raise ValueError("no luck")
