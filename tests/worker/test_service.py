"""How a worker's parts come to their end."""

from __future__ import annotations

import asyncio

import pytest

from worker import service
from worker.service import end_all


async def test_a_task_that_loses_a_cancellation_ends_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A worker that had been told to stop lived on, with nothing to do.
    monkeypatch.setattr(service, "CANCEL_AGAIN_SECONDS", 0.01)
    lost = 0
    began = asyncio.Event()

    async def loses_two() -> None:
        nonlocal lost
        while True:
            began.set()
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    tasks = [asyncio.create_task(loses_two()), asyncio.create_task(asyncio.sleep(1000))]
    await began.wait()

    await end_all(tasks)

    assert all(one.cancelled() for one in tasks)
    assert lost == 3
