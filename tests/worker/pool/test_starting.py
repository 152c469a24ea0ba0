"""Pools whose processes cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.worker.pool.running import MODULES, alive, result, submit, wait_until
from tests.worker.pool.scripts import SCRIPT, started
from twolane.errors import JobDefinitionError, ProcessDied
from worker.pool import Pool


async def test_a_module_that_cannot_be_imported_fails_the_start() -> None:
    with pytest.raises(JobDefinitionError, match=r"tests\.worker\.missing"):
        await Pool(2, ["tests.worker.missing"]).start()


async def test_a_module_that_ends_the_process_fails_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_jobs.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ProcessDied, match="exited with status 3 while it loaded the jobs"):
        await Pool(2, ["deadly_jobs"]).start()


async def test_a_module_that_ends_python_fails_the_start_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_jobs.py").write_text("raise KeyboardInterrupt('early')\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(JobDefinitionError, match="cannot be loaded: KeyboardInterrupt: early"):
        await Pool(2, ["interrupted_jobs"]).start()


async def test_jobs_wait_while_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "fickle_jobs.py").write_text(
        "import os\n"
        "from twolane import job\n"
        f"if os.path.exists({str(broken)!r}):\n"
        f"    open({str(broken)!r}, 'a').write('x')\n"
        "    os._exit(3)\n"
        "@job\n"
        "def pid(): return os.getpid()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool(1, ["fickle_jobs"]) as pool:
        broken.touch()
        os.kill(await result(pool, "pid"), signal.SIGKILL)
        await wait_until(lambda: "trying again in 0.1 s" in caplog.text)
        await wait_until(lambda: "trying again in 0.2 s" in caplog.text)
        assert len(broken.read_text()) >= 2
        assert pool.missing == 1
        run = submit(pool, "pid")
        assert not run.done()

        broken.unlink()

        assert (await run).ok
        assert pool.missing == 0


def test_a_pool_of_no_processes_is_refused() -> None:
    with pytest.raises(ValueError, match="processes=0"):
        Pool(0, MODULES)


async def test_a_pool_that_was_not_started_takes_no_job() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        submit(Pool(1, MODULES), "add", 1)


async def test_a_pool_is_started_once() -> None:
    async with Pool(1, MODULES) as pool:
        with pytest.raises(RuntimeError, match="started before"):
            await pool.start()

        assert await result(pool, "add", 1) == 2


async def test_a_cancelled_start_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless_jobs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    pool = Pool(2, ["endless_jobs"])
    start = asyncio.create_task(pool.start())
    await wait_until(lambda: len(pool.pids) == 2)
    pids = list(pool.pids)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert not any(map(alive, pids))


async def test_a_script_without_a_guard_is_told_and_does_not_hang(tmp_path: Path) -> None:
    """Starting a process imports the script, which starts a pool in the process, which hung."""
    unguarded = SCRIPT.replace('if __name__ == "__main__":', "if True:")

    async with started(unguarded, tmp_path, stderr=PIPE) as parent:
        _, err = await asyncio.wait_for(parent.communicate(), 30)

    assert b"if __name__ == '__main__':" in err
    assert b"while it loaded the jobs" in err
