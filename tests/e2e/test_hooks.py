"""The hooks of a module of jobs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.e2e.conftest import Start
from tests.worker.hosting import enqueue, outcomes
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


async def test_the_hooks_of_a_module_are_called_once_each(
    client: Redis, start: Start, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs_with_hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load(["jobs_with_hooks"])
    worker = start("io", modules=("jobs_with_hooks",))

    ended = await outcomes(client, await enqueue(client, registry, "greet", {}, {}))
    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert [one.result for one in ended] == ["hello", "hello"]
    assert (notes / "hooks").read_text() == "up with ArqRedis\ndown after hello\n"


async def test_a_cpu_worker_calls_no_hooks(
    client: Redis, start: Start, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu_jobs_with_hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load(["cpu_jobs_with_hooks"])
    worker = start("cpu", modules=("cpu_jobs_with_hooks",))

    ended = await outcomes(client, await enqueue(client, registry, "compute"))
    worker.send(signal.SIGTERM)

    assert await worker.wait() == 0
    assert [one.result for one in ended] == [1]
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
