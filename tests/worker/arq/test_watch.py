"""``--watch``: the worker runs anew when a file changes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from arq.connections import ArqRedis

from tests.conftest import wait_until
from tests.worker.arq.conftest import POLL, Make, answer, enqueued
from worker.arq.cli import _run_anew


async def test_a_worker_that_fails_says_so_and_starts_with_the_next_change(
    pool: ArqRedis,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    saved, starts = asyncio.Event(), 0

    async def awatch(directory: Path, stop_event: asyncio.Event) -> AsyncIterator[set[Any]]:
        """A person who saves a file once."""
        await saved.wait()
        yield set()
        await stop_event.wait()

    async def on_startup(ctx: dict[str, Any]) -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise LookupError("a mistake")

    watchfiles = ModuleType("watchfiles")
    vars(watchfiles)["awatch"] = awatch
    monkeypatch.setitem(sys.modules, "watchfiles", watchfiles)
    running = asyncio.create_task(
        _run_anew(tmp_path, lambda: make(answer, on_startup=on_startup, handle_signals=True))
    )

    async def told() -> bool:
        return "it starts again with the next change" in caplog.text

    await wait_until(told, "the worker's error in the log")
    assert "a mistake" in caplog.text
    saved.set()

    made = await enqueued(pool, "answer")
    assert await made.result(timeout=10, poll_delay=POLL) == 42
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
