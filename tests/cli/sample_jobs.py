"""Jobs for the tests of the command line."""

from __future__ import annotations

import asyncio
from typing import Any

from twolane import job

CONTROLS = "\x1b[31mred\x07 \x9b2J \u202e"


@job(keep_result=60)
async def echo(value: Any = None) -> Any:
    """Give back the ``value``."""
    return value


@job
async def fail(message: str = "as asked") -> None:
    """Fail."""
    raise ValueError(message)


@job
async def fail_with_controls() -> None:
    """Fail with a text that would act on a terminal."""
    raise ValueError(CONTROLS)


@job
async def wait_long() -> None:
    """Wait for an hour."""
    await asyncio.sleep(3600)


@job
def square(n: int) -> int:
    """Compute."""
    return n * n


@job
async def odd_values() -> Any:
    """Values that JSON has no form for."""
    return {"nan": float("nan"), "inf": float("inf"), "bytes": b"\x00\xff", b"key": 1, 2: 3}
