"""The jobs that the tests of the IO lane run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from twolane import job
from worker.engine import Retry


class Quit(BaseException):
    """What no `except Exception` catches."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Opaque:
    """What has no form on the wire."""


@job
async def add(left: int, right: int = 1) -> int:
    return left + right


@job
async def fail(message: str) -> None:
    raise ValueError(message)


@job
async def exit_python() -> None:
    raise SystemExit(3)


@job
async def interrupt() -> None:
    raise KeyboardInterrupt


@job
async def quit_() -> None:
    raise Quit("enough")


@job
async def fail_without_text() -> None:
    raise Unprintable


@job
async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


@job
async def await_what_was_cancelled() -> None:
    other = asyncio.ensure_future(asyncio.sleep(60))
    other.cancel()
    await other


@job
async def ask_for_another_try(defer: float) -> None:
    raise Retry(defer=defer)


@job
async def return_opaque() -> Any:
    return Opaque()


# What would end the loop, or the task that meets it, and not the job alone.
ENDING = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]


@dataclasses.dataclass
class Leaves:
    x: int
    error = ENDING[0]

    def __post_init__(self) -> None:
        raise self.error


class Nowhere(tzinfo):
    error: BaseException = ZeroDivisionError("no offset")

    def utcoffset(self, when: datetime | None) -> timedelta:
        raise self.error


@dataclasses.dataclass(frozen=True)
class Square:
    column: str
    row: int


@job
async def return_what_nobody_reads() -> dict[Square, str]:
    return {Square("e", 4): "pawn"}


@job
async def return_what_raises() -> datetime:
    return datetime(2020, 1, 1, tzinfo=Nowhere())


@job
async def return_bytes(count: int) -> bytes:
    return bytes(count)


@job(timeout=0.05)
async def wait_forever() -> None:
    await asyncio.Event().wait()


@job(timeout=0.05)
async def clean_up_slowly() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)


@job(timeout=0.05)
async def return_although_cancelled() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "done all the same"


@job
async def weekday(day: date) -> int:
    return day.weekday()


@job
async def see_context(ctx: dict[str, Any]) -> dict[str, Any]:
    return ctx


@job(lane="io")
def block(value: str) -> list[str]:
    return [value, threading.current_thread().name]


@job(lane="io")
def block_with_context(ctx: dict[str, Any]) -> str:
    return str(ctx["job_id"])


@job(lane="io")
def exit_from_thread() -> None:
    raise SystemExit(3)


@job(lane="io")
def interrupt_from_thread() -> None:
    raise KeyboardInterrupt


@job(lane="io")
def stop_iteration_from_thread() -> Any:
    return next(iter([]))


@job(lane="io")
def quit_from_thread() -> None:
    raise Quit("enough")


@job(lane="io")
def fail_from_thread() -> None:
    raise ValueError("from a thread")


FUNCTIONS: list[Callable[..., Any]] = [
    add, fail, exit_python, interrupt, quit_, fail_without_text, cancel_itself,
    await_what_was_cancelled, ask_for_another_try, return_opaque, return_what_nobody_reads,
    return_what_raises, return_bytes, wait_forever, clean_up_slowly, return_although_cancelled,
    weekday, see_context, block, block_with_context, exit_from_thread, interrupt_from_thread,
    stop_iteration_from_thread, quit_from_thread, fail_from_thread,
]  # fmt: skip
