"""Scripts that run a pool in a Python of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).parents[3]

SCRIPT = """
import asyncio, sys
from twolane import wire
from worker.pool import Pool

async def main(directory):
    async with Pool(3, ["tests.worker.pool_jobs"]) as pool:
        spin = wire.dumps([[directory + "/spins"], {}])
        wait = wire.dumps([[directory + "/waits", directory + "/never"], {}])
        await asyncio.gather(
            pool.run("spin_with_children", spin), pool.run("wait_for_file", wait)
        )

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


@contextlib.asynccontextmanager
async def started(source: str, directory: Path, **streams: int) -> AsyncIterator[Process]:
    """A Python that runs the script, with the directory as its argument; it ends with the block."""
    script = directory / "script.py"
    script.write_text(source)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(directory),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **streams,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
