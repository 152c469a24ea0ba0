"""Jobs for workers that are real processes; they talk to the tests by files."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twolane import job
from twolane.registry import Backoff

AT_ONCE = Backoff(base=0.001)


def note(directory: str, name: str) -> None:
    """Say that something has happened: an empty file of that name."""
    (Path(directory) / name).touch()


# -- IO lane --


@job
async def add(left: int, right: int) -> int:
    return left + right


@job
async def nap(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


@job
async def wait_for_go(ctx: dict[str, Any], directory: str) -> str:
    """Note ``<id>.<pid>``, wait until there is a file ``go``; note it when cancelled."""
    name = f"{ctx['job_id']}.{os.getpid()}"
    note(directory, name)
    go = Path(directory) / "go"
    try:
        while not go.exists():  # noqa: ASYNC110  (another process makes the file)
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note(directory, f"{name}.cancelled")
        raise
    return f"try {ctx['job_try']} by {os.getpid()}"


@job
async def first_waits(ctx: dict[str, Any], directory: str) -> str:
    """The first try waits for good, or for a file ``go``; the others end at once."""
    if ctx["job_try"] == 1:
        return str(await wait_for_go(ctx, directory))
    return f"try {ctx['job_try']} by {os.getpid()}"


@job
async def block_the_loop(seconds: float) -> int:
    time.sleep(seconds)  # noqa: ASYNC251  (what a job should not do)
    return os.getpid()


@job(lane="io")
def block_a_thread(directory: str, seconds: float) -> None:
    note(directory, "blocked")
    time.sleep(seconds)


@job
async def exit_python() -> None:
    sys.exit(3)


@job
async def fork_and_return() -> str:
    return "copy" if os.fork() == 0 else "original"


@job
async def fork_and_wait() -> str:
    copy = os.fork()
    await asyncio.sleep(0.1)
    return "copy" if copy == 0 else "original"


@job(lane="io")
def exit_python_from_a_thread() -> None:
    sys.exit(3)


@job
async def exit_python_from_a_task() -> None:
    async def leave() -> None:
        sys.exit(3)

    await asyncio.create_task(leave())


@job
async def many_zeros(size: int) -> bytes:
    return bytes(size)


# -- CPU lane --


@job
def many_zeros_computed(size: int) -> bytes:
    return bytes(size)


@job
def own_pid() -> int:
    return os.getpid()


@job
def compute(seconds: float) -> int:
    """Compute for so many CPU seconds."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return os.getpid()


@job
def hold(directory: str, name: str) -> int:
    """Note the process's id under ``name``, wait until there is a file ``go``."""
    unfinished = Path(directory) / f".{name}"
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(Path(directory) / name)
    while not (Path(directory) / "go").exists():
        time.sleep(0.01)
    return os.getpid()


@job
def start_a_child_and_hold(directory: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    unfinished = Path(directory) / ".pids"
    unfinished.write_text(f"{os.getpid()} {child.pid}")
    unfinished.rename(Path(directory) / "pids")
    time.sleep(600)


@job(timeout=0.3)
def compute_too_long() -> None:
    while True:
        pass


@job
def leave_at_once(status: int) -> None:
    os._exit(status)


@job
def crash() -> None:
    ctypes.string_at(0)


@job(retries=2, backoff=AT_ONCE)
def fail(message: str) -> None:
    raise ValueError(message)


@job(retries=3, backoff=AT_ONCE)
def weekday(day: str, /, *, shift: int) -> int:
    return len(day) + shift


@job(retries=3, backoff=AT_ONCE)
def opaque() -> Any:
    return object()
