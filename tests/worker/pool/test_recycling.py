"""Processes that grew too large, or ran as many jobs as they may."""

from __future__ import annotations

import pytest

import worker.limits
from tests.worker.pool.running import MODULES, alive, result, submit, wait_until
from twolane.errors import ProcessDied
from worker.pool import Pool


async def test_a_process_over_the_memory_limit_is_killed_in_the_job() -> None:
    async with Pool(1, MODULES, max_memory_bytes=90 << 20) as pool:
        with pytest.raises(ProcessDied, match="memory limit of 90 MiB"):
            await submit(pool, "swell", 100)

        assert await result(pool, "add", 1) == 2


async def test_a_process_that_runs_no_job_is_not_held_to_the_memory_limit() -> None:
    async with Pool(1, MODULES, max_memory_bytes=1) as pool:
        assert pool._memory is not None

        pool._memory._check()

        assert pool.restarts == 0


async def test_a_process_that_keeps_too_much_is_replaced_after_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.limits, "MEMORY_POLL_SECONDS", 3600)
    async with Pool(1, MODULES, max_memory_bytes=90 << 20) as pool:
        first = await result(pool, "keep", 5)
        second = await result(pool, "keep", 100)
        third = await result(pool, "keep", 5)

    assert first == second
    assert third != first


async def test_processes_are_recycled_by_count() -> None:
    async with Pool(1, MODULES, max_jobs_per_process=3) as pool:
        pids = [await result(pool, "own_pid") for _ in range(9)]
        await wait_until(lambda: not alive(pids[0]))

    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6, 6, 6]
