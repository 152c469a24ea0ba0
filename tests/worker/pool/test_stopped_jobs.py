"""Jobs that are timed out or cancelled: that process is killed, and no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.worker.pool.running import MODULES, alive, noted, result, submit, wait_until
from twolane import wire
from twolane.errors import JobTimeout, ProcessDied
from worker.pool import Pool, Run


async def test_a_timeout_kills_that_process_and_no_other(pool: Pool, tmp_path: Path) -> None:
    other = submit(pool, "wait_for_file", f"{tmp_path}/other", f"{tmp_path}/go")
    [other_pid] = await noted(tmp_path / "other")

    run = submit(pool, "spin", f"{tmp_path}/spins", timeout=0.3)
    [pid] = [one for one, has_job in pool.pids.items() if has_job and one != other_pid]
    with pytest.raises(JobTimeout, match=r"0\.3 s"):
        await run

    assert not alive(pid)
    (tmp_path / "go").touch()
    assert wire.loads((await other).result) == other_pid
    assert await result(pool, "add", 1) == 2


async def test_a_timeout_counts_from_the_start_in_a_process(tmp_path: Path) -> None:
    async with Pool(1, MODULES) as pool:
        first = submit(pool, "wait_for_file", f"{tmp_path}/first", f"{tmp_path}/go")
        second = submit(pool, "add", 1, timeout=60)
        await noted(tmp_path / "first")

        assert second.deadline == float("inf")
        let_go = asyncio.get_running_loop().time()
        (tmp_path / "go").touch()

        assert (await first).ok
        assert (await second).ok
        assert second.deadline >= let_go + 60


async def test_of_many_timeouts_each_is_kept(pool: Pool, tmp_path: Path) -> None:
    now = asyncio.get_running_loop().time
    ended: dict[Run, float] = {}
    late = submit(pool, "spin", f"{tmp_path}/late", timeout=0.4)
    early = submit(pool, "spin", f"{tmp_path}/early", timeout=0.1)
    for run in (late, early):
        run.add_done_callback(lambda run: ended.setdefault(run, now()))

    with pytest.raises(JobTimeout, match=r"0\.1 s"):
        await early
    with pytest.raises(JobTimeout, match=r"0\.4 s"):
        await late
    assert ended[late] >= late.deadline - 0.001, "a timer may go off that early"


async def test_children_of_a_job_die_with_it(pool: Pool, tmp_path: Path) -> None:
    run = submit(pool, "spin_with_children", f"{tmp_path}/pids")
    pids = await noted(tmp_path / "pids")
    assert all(map(alive, pids))

    run.cancel()

    await wait_until(lambda: not any(map(alive, pids)))


async def test_cancelling_kills_that_process_and_no_other(pool: Pool, tmp_path: Path) -> None:
    other = submit(pool, "wait_for_file", f"{tmp_path}/other", f"{tmp_path}/go")
    run = submit(pool, "spin", f"{tmp_path}/spins")
    [other_pid] = await noted(tmp_path / "other")
    [pid] = await noted(tmp_path / "spins")

    run.cancel()

    await wait_until(lambda: not alive(pid))
    (tmp_path / "go").touch()
    assert wire.loads((await other).result) == other_pid
    await wait_until(lambda: pool.busy == 0 and len(pool.pids) == 2)
    assert pool.restarts == 1


async def test_cancelling_the_task_that_waits_cancels_the_job(pool: Pool, tmp_path: Path) -> None:
    task = asyncio.create_task(result(pool, "spin", f"{tmp_path}/spins"))
    [pid] = await noted(tmp_path / "spins")

    task.cancel()

    await wait_until(lambda: not alive(pid))


async def test_cancelling_a_waiting_job_kills_nothing(tmp_path: Path) -> None:
    async with Pool(1, MODULES) as pool:
        running = submit(pool, "wait_for_file", f"{tmp_path}/first", f"{tmp_path}/go")
        waiting = submit(pool, "spin", f"{tmp_path}/never")
        last = submit(pool, "own_pid")

        waiting.cancel()
        (tmp_path / "go").touch()

        assert wire.loads((await running).result) == wire.loads((await last).result)
        assert not (tmp_path / "never").exists()
        assert pool.restarts == 0


async def test_of_two_reasons_to_kill_a_process_the_first_one_is_told(
    pool: Pool, tmp_path: Path
) -> None:
    run = submit(pool, "spin", f"{tmp_path}/spins")
    assert run.process is not None

    run.process.kill(JobTimeout("the first"))
    run.process.kill(ProcessDied("the second"))

    with pytest.raises(JobTimeout, match="the first"):
        await run
