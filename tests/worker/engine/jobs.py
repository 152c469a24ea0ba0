"""The jobs that the tests of the engine run."""

from __future__ import annotations

import asyncio
import time
from datetime import date
from typing import Any

import arq

from tests.worker.hosting import registry_of
from twolane import job
from twolane.registry import Backoff

AT_ONCE = Backoff(base=0.001)


FOREVER = 60.0


@job
async def add(left: int, right: int) -> int:
    return left + right


@job
async def wait_for_go(ctx: dict[str, Any]) -> str:
    ctx["started"].append(ctx["job_id"])
    await ctx["go"].wait()
    return f"try {ctx['job_try']}"


@job(retries=5)
async def wait_with_retries(ctx: dict[str, Any]) -> str:
    return str(await wait_for_go(ctx))


@job
async def note_cancellation(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    try:
        await ctx["go"].wait()
    except asyncio.CancelledError:
        ctx.setdefault("noted", ctx["started"]).append("cancelled")
        raise


@job
async def swallow_cancellation(ctx: dict[str, Any]) -> None:
    ctx["started"].append(ctx["job_id"])
    while not ctx["go"].is_set():
        try:
            await ctx["go"].wait()
        except asyncio.CancelledError:
            ctx["started"].append("swallowed")


@job(retries=2, backoff=AT_ONCE)
async def fail_until(ctx: dict[str, Any], good_try: int) -> int:
    if ctx["job_try"] < good_try:
        raise ValueError(f"try {ctx['job_try']}")
    return int(ctx["job_try"])


@job
async def ask_for_another_try(ctx: dict[str, Any], until: int, defer: float) -> int:
    ctx["started"].append(str(ctx["job_try"]))
    if ctx["job_try"] < until:
        raise arq.Retry(defer=defer)
    return int(ctx["job_try"])


@job(retries=7, backoff=AT_ONCE)
async def ask_more_often(ctx: dict[str, Any]) -> None:
    raise arq.Retry


@job(retries=3, backoff=AT_ONCE)
async def return_opaque(ctx: dict[str, Any]) -> Any:
    ctx["started"].append(ctx["job_id"])
    return object()


@job
async def return_bytes(count: int) -> bytes:
    return bytes(count)


@job(retries=3)
async def weekday(day: date) -> int:
    return day.weekday()


@job(keep_result=0)
async def forget() -> str:
    return "not kept"


@job(keep_result=None)
async def remember() -> str:
    return "kept for good"


@job
async def burn(seconds: float) -> None:
    for _ in range(4):
        end = time.thread_time() + seconds / 4
        while time.thread_time() < end:
            pass
        await asyncio.sleep(0)


@job
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@job
async def see_context(ctx: dict[str, Any]) -> dict[str, Any]:
    child = await ctx["redis"].enqueue_job("add", 20, 22)
    return {
        "redis": type(ctx["redis"]).__name__,
        "child": child.job_id,
        **{key: ctx[key] for key in ("job_id", "job_try", "enqueue_time", "score")},
    }


@job
def compute() -> None:
    """Comes by the wrong queue here."""


REGISTRY = registry_of(
    [
        add, wait_for_go, note_cancellation, swallow_cancellation, fail_until, ask_for_another_try,
        ask_more_often, return_opaque, return_bytes, weekday, forget, remember, burn, sleep,
        see_context, compute, wait_with_retries,
    ]
)  # fmt: skip
