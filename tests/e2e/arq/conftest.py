"""``twolane arq`` in the place of ``arq``, as a process, with an application made for arq."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import arq
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job
from redis.asyncio import Redis

from tests.e2e.conftest import ROOT, WorkerProcess
from twolane import address, keys

APP = "tests.e2e.arq_app"
POLL = 0.01
OURS = ("twolane.cli", "arq")
THEIRS = ("arq",)


class AppProcess(WorkerProcess):
    """``twolane arq …`` or arq's own command."""

    def __init__(self, command: list[str], broker: str, notes: Path, log: Path) -> None:
        self._log = log
        environ = {
            **os.environ,
            "ARQ_APP_SOCKET": address.parse(broker).path or "",
            "ARQ_APP_NOTES": str(notes),
            "PYTHONPATH": str(ROOT),
        }
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, env=environ, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid


Launch = Callable[..., AppProcess]


@pytest.fixture
def launch(broker: str, notes: Path, tmp_path: Path) -> Iterator[Launch]:
    """``launch("WorkerSettings", "--burst")``; leases of 1 s where nothing is said."""
    started: list[AppProcess] = []

    def launch(
        settings: str, *options: str, command: tuple[str, ...] = OURS, url: str = broker
    ) -> AppProcess:
        given = [*command, f"{APP}.{settings}", *options]
        if command == OURS and "--lease" not in options:
            given += ["--lease", "1"]
        log = tmp_path / f"app-{len(started)}.log"
        started.append(AppProcess(given, url, notes, log))
        return started[-1]

    yield launch
    for process in started:
        process.end()


async def pool_of(url: str) -> ArqRedis:
    return await arq.create_pool(RedisSettings(unix_socket_path=address.parse(url).path))


@pytest.fixture
async def pool(broker: str) -> AsyncIterator[ArqRedis]:
    """arq's client, as an application makes it: pickle."""
    made = await pool_of(broker)
    yield made
    await made.aclose()


async def enqueued(pool: ArqRedis, function: str, *args: object, **options: object) -> Job:
    made = await pool.enqueue_job(function, *args, **options)
    assert made is not None
    return made


def noted(notes: Path) -> list[str]:
    return [path.name for path in notes.iterdir()]


def noticed(worker: AppProcess) -> Callable[[], Awaitable[bool]]:
    async def in_its_log() -> bool:
        return "lost the lease" in worker.log or "outcomes refused" in worker.log

    return in_its_log


async def keys_left(client: Redis) -> set[str]:
    return {keys.id_of(one) for one in await client.keys("*")}
