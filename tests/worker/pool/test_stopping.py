"""The end of a pool, by itself or with its worker: no process stays."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL
from pathlib import Path

import psutil
import pytest

from tests.worker.pool.running import MODULES, alive, noted, result, submit, wait_until
from tests.worker.pool.scripts import SCRIPT, started
from twolane.errors import ProcessDied
from worker.pool import Pool


async def test_stopping_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    async with Pool(2, MODULES) as warm:  # the forkserver stays, with descriptors of its own
        await result(warm, "add", 1)
    descriptors = set(os.listdir("/dev/fd"))
    pool = Pool(2, MODULES)
    await pool.start()
    runs = [submit(pool, "spin_with_children", f"{tmp_path}/{n}") for n in range(3)]
    pids = [*await noted(tmp_path / "0"), *await noted(tmp_path / "1")]
    own = list(pool.pids)

    await pool.stop()
    await pool.stop()

    assert not any(map(alive, own))
    await wait_until(lambda: not any(map(alive, pids)))  # the jobs' children, killed with them
    assert pool.pids == {}
    assert pool.busy == 0
    for run in runs:
        with pytest.raises(ProcessDied, match="the pool was stopped"):
            await run
    assert len(os.listdir("/dev/fd")) == len(descriptors)
    with pytest.raises(RuntimeError, match="not running"):
        submit(pool, "add", 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_no_process_outlives_a_killed_worker(tmp_path: Path, how: signal.Signals) -> None:
    async with started(SCRIPT, tmp_path, stderr=DEVNULL) as parent:
        pids = [*await noted(tmp_path / "spins"), *await noted(tmp_path / "waits")]
        pids += [one.pid for one in psutil.Process(parent.pid).children(recursive=True)]
        assert len(set(pids)) >= 5

        parent.send_signal(how)
        await asyncio.wait_for(parent.wait(), 30)

        await wait_until(lambda: not any(map(alive, pids)))
