"""How many jobs run at a time, and in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.worker.pool.running import MODULES, submit, wait_until
from twolane import wire
from worker.pool import Pool


async def test_jobs_wait_in_the_order_of_their_submission(tmp_path: Path) -> None:
    order: list[int] = []
    async with Pool(1, MODULES) as pool:
        runs = [submit(pool, "echo", number) for number in range(20)]
        for run in runs:
            run.add_done_callback(lambda run: order.append(wire.loads(run.result().result)))
        assert pool.busy == 1
        await asyncio.gather(*runs)

    assert order == list(range(20))


async def test_a_successor_does_not_make_more_jobs_run_than_there_are_processes(
    tmp_path: Path,
) -> None:
    async with Pool(1, MODULES, max_jobs_per_process=1) as pool:
        first = submit(pool, "wait_for_file", f"{tmp_path}/first", f"{tmp_path}/go")
        second = submit(pool, "add", 1)
        await wait_until(lambda: len(pool.pids) == 2 and pool._idle)

        assert pool.busy == 1
        assert not second.done()
        (tmp_path / "go").touch()
        assert (await first).ok
        assert (await second).ok
