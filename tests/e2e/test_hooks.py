"""The hooks of a module of jobs."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.e2e.conftest import Start, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane import fleet
from twolane.keys import Lane
from twolane.registry import Registry

HOOKS = """
import os
from pathlib import Path
from twolane import job

HERE = Path(__file__).parent / "notes"

async def on_startup(ctx):
    with (HERE / "hooks").open("a") as file:
        file.write(f"up with {type(ctx['redis']).__name__}\\n")
    ctx["greeting"] = "hello"

def on_shutdown(ctx):
    with (HERE / "hooks").open("a") as file:
        file.write(f"down after {ctx['greeting']}\\n")

@job
async def greet(ctx):
    return ctx["greeting"]

@job
def compute():
    return 1
"""


BROKEN_HOOK = """
from twolane import job

def on_startup(ctx):
    raise LookupError("no such database")

@job
async def greet():
    return "hello"
"""


Work = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
def work_with_hooks(
    client: Redis, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Work:
    """Run jobs of a module with hooks on a worker of its own, and end that; their results."""

    async def work(lane: Lane, module: str, function: str, count: int) -> list[Any]:
        (tmp_path / f"{module}.py").write_text(HOOKS)
        monkeypatch.syspath_prepend(str(tmp_path))
        worker = start(lane, modules=(module,))
        run = await enqueue(client, Registry.load([module]), function, *[{}] * count)
        ended = await outcomes(client, run)
        worker.send(signal.SIGTERM)
        assert await worker.wait() == 0
        return [one.result for one in ended]

    return work


async def test_the_hooks_of_a_module_are_called_once_each(
    work_with_hooks: Work, notes: Path
) -> None:
    results = await work_with_hooks("io", "jobs_with_hooks", "greet", 2)

    assert results == ["hello", "hello"]
    assert (notes / "hooks").read_text() == "up with ArqRedis\ndown after hello\n"


async def test_a_cpu_worker_calls_no_hooks(work_with_hooks: Work, notes: Path) -> None:
    results = await work_with_hooks("cpu", "cpu_jobs_with_hooks", "compute", 1)

    assert results == [1]
    assert not (notes / "hooks").exists()


async def test_a_hook_that_fails_at_the_start_is_one_clear_line(
    client: Redis, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "jobs_with_a_broken_hook.py").write_text(BROKEN_HOOK)
    worker = start("io", modules=("jobs_with_a_broken_hook",))

    assert await worker.wait() == 2
    said = [line for line in worker.log.splitlines() if "failed" in line]
    assert said == [
        "Error: jobs_with_a_broken_hook.on_startup failed: LookupError: no such database"
    ]
    assert "Traceback" not in worker.log


HANGING_START = """
import asyncio
from pathlib import Path
from twolane import job

async def on_startup(ctx):
    (Path(__file__).parent / "notes" / "hanging").touch()
    await asyncio.Event().wait()

@job
async def greet():
    return None
"""

HANGING_END = HANGING_START.replace("on_startup", "on_shutdown")

HANGING_IMPORT = """
import time
from multiprocessing import parent_process
from pathlib import Path
from twolane import job

if parent_process() is not None:
    (Path(__file__).parent / "notes" / "hanging").touch()
    time.sleep(1000)

@job
def compute():
    return None
"""


@pytest.mark.parametrize(
    ("lane", "text", "runs_first"),
    [("io", HANGING_START, False), ("io", HANGING_END, True), ("cpu", HANGING_IMPORT, False)],
    ids=["start", "end", "import"],
)
async def test_the_second_signal_stops_a_worker_whose_module_hangs(
    client: Redis,
    start: Start,
    tmp_path: Path,
    notes: Path,
    lane: Lane,
    text: str,
    runs_first: bool,
) -> None:
    # It said that the second one stops at once, and went on waiting.
    (tmp_path / "hanging.py").write_text(text)
    worker = start(lane, modules=("hanging",))
    if runs_first:
        await worker.heartbeat(client)
        worker.send(signal.SIGTERM)
    await wait_noted(notes, "hanging")

    if not runs_first:
        worker.send(signal.SIGTERM)
        await worker.wait_logged("a second SIGTERM stops at once")
    worker.send(signal.SIGTERM)

    assert await worker.wait() == 128 + signal.SIGTERM
    assert await fleet.workers(client) == []


@pytest.mark.parametrize(
    ("lane", "text"), [("io", HANGING_START), ("cpu", HANGING_IMPORT)], ids=["start", "import"]
)
async def test_a_worker_whose_module_hangs_ends_with_its_parent(
    client: Redis, start: Start, tmp_path: Path, notes: Path, lane: Lane, text: str
) -> None:
    # It waited for a second signal, and there was nobody left to send one.
    (tmp_path / "hanging.py").write_text(text)
    worker = start(lane, modules=("hanging",))
    await wait_noted(notes, "hanging")

    assert worker._process.stdin is not None
    worker._process.stdin.close()

    assert await worker.wait() == 128 + signal.SIGTERM
    assert await fleet.workers(client) == []


HELD_LOOP = """
import time
import worker.service
from pathlib import Path
from twolane import job

worker.service.ORPHAN_SECONDS = 1.0

def on_shutdown(ctx):
    (Path(__file__).parent / "notes" / "hanging").touch()
    time.sleep(1000)

@job
async def greet():
    return None
"""


# Who read its messages went away with its parent.
UNHEARD = HELD_LOOP.replace("import time\n", "import os\nimport time\n").replace(
    "    time.sleep(1000)",
    '    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)\n    time.sleep(1000)',
)


@pytest.mark.parametrize(
    "text", [HANGING_END, HELD_LOOP, UNHEARD], ids=["waits", "holds the loop", "unheard"]
)
async def test_a_worker_whose_shutdown_hook_hangs_ends_without_its_parent(
    client: Redis,
    start: Start,
    tmp_path: Path,
    notes: Path,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The hook began after its parent had gone: nobody was left to stop it, and the worker stayed.
    # It stayed too where its last words could not be written.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    (tmp_path / "hanging.py").write_text(text)
    worker = start("io", "--grace", "0", modules=("hanging",))
    await worker.heartbeat(client)

    assert worker._process.stdin is not None
    worker._process.stdin.close()
    await wait_noted(notes, "hanging")

    assert await worker.wait() == 128 + signal.SIGTERM
