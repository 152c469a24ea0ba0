"""The CPU lane by itself: how its attempts end, how far it claims ahead, and a wrong guess."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import worker.ahead
import worker.cpu
from tests.worker import pool_jobs
from twolane import wire
from twolane.registry import Registry
from twolane.store import ClaimedJob
from worker.attempt import Attempt, Ended, Verdict
from worker.cpu import CpuLane
from worker.pool import Pool

REGISTRY = Registry.load([pool_jobs.__name__])


class Place:
    """A lane on a pool of one process, and the ends that it reports."""

    def __init__(self, pool: Pool) -> None:
        self.lane = CpuLane(pool, self._finish)
        self.ended: asyncio.Queue[tuple[str, Verdict | None, Ended]] = asyncio.Queue()

    def _finish(self, attempt: Attempt, ended: Ended) -> None:
        self.ended.put_nowait((attempt.id, attempt.verdict, ended))

    def start(self, job_id: str, name: str, **kwargs: Any) -> Attempt:
        attempt = Attempt(ClaimedJob(job_id, b"", 1, 0, False, b"fence"), 0)
        attempt.job = REGISTRY[name]
        attempt.payload = wire.Payload(
            name, msgspec.Raw(b"\x90"), msgspec.Raw(wire.dumps(kwargs)), 0
        )
        self.lane.start(attempt)
        return attempt

    async def run(self, name: str, **kwargs: Any) -> None:
        self.start("one", name, **kwargs)
        await asyncio.wait_for(self.ended.get(), 20)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs ahead are not handed back, however busy the machine is."""
    monkeypatch.setattr(worker.ahead, "AHEAD_SECONDS", 60.0)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are short, however busy the machine is."""
    monkeypatch.setattr(worker.cpu, "SHORT_SECONDS", 60.0)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with Pool(1, [pool_jobs.__name__]) as pool:
        yield Place(pool)


async def test_nothing_is_claimed_ahead_before_a_job_has_run(place: Place) -> None:
    assert place.lane.ahead() == 0


@pytest.mark.usefixtures("unhurried")
async def test_short_jobs_are_claimed_ahead_one_a_process(place: Place) -> None:
    await place.run("add", left=1)

    assert place.lane.ahead() == 1


async def test_after_long_jobs_none_is_claimed_ahead(place: Place) -> None:
    await place.run("add", left=1)
    await place.run("burn", seconds=0.2)

    assert place.lane.ahead() == 0


async def test_a_job_claimed_ahead_of_a_long_one_is_handed_back(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.ahead, "AHEAD_SECONDS", 0.01)
    await place.run("add", left=1)
    go = tmp_path / "go"

    place.start("long", "wait_for_file", started=str(tmp_path / "started"), awaited=str(go))
    place.start("ahead", "add", left=1)

    assert (await asyncio.wait_for(place.ended.get(), 20))[:2] == ("ahead", Verdict.RELEASED)
    assert place.lane.ahead() == 0
    go.touch()
    assert (await asyncio.wait_for(place.ended.get(), 20))[:2] == ("long", None)


async def test_a_job_that_a_dying_process_did_not_take_is_handed_back_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It had a process once, so nobody looked whether it waited: it did for as long as none started.
    monkeypatch.setattr(worker.ahead, "AHEAD_SECONDS", 0.01)
    broken = tmp_path / "broken"
    (tmp_path / "breaking_jobs.py").write_text(
        f"import os\nif os.path.exists({str(broken)!r}):\n    os._exit(3)\n"
        "from tests.worker.pool_jobs import add\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool(1, ["breaking_jobs"]) as pool:
        place = Place(pool)
        (pid,) = pool.pids
        broken.touch()
        os.kill(pid, signal.SIGKILL)
        while lives(pid):  # the loop is not to hear of it
            pass

        place.start("one", "add", left=1)

        assert (await asyncio.wait_for(place.ended.get(), 20))[:2] == ("one", Verdict.RELEASED)


async def test_a_job_claimed_ahead_runs_when_a_process_is_free(place: Place) -> None:
    ids = [str(number) for number in range(50)]
    for one in ids:
        place.start(one, "add", left=1)

    ended = [await asyncio.wait_for(place.ended.get(), 20) for _ in ids]

    assert [one[:2] for one in ended] == [(one, None) for one in ids]


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "retryable"),
    [
        ("unencodable", {}, "ResultNotEncodable", False),
        ("zeros", {"size": 2_000}, "ResultTooLarge", False),
        ("add", {"left": 1, "wrong": 2}, "BadArguments", False),
        ("fail", {"message": "no such luck"}, "ValueError", True),
    ],
)
async def test_only_what_could_end_otherwise_is_tried_again(
    name: str, kwargs: dict[str, Any], error: str, retryable: bool
) -> None:
    async with Pool(1, [pool_jobs.__name__], max_result_bytes=1_000) as pool:
        place = Place(pool)
        place.start("one", name, **kwargs)
        _, _, ended = await asyncio.wait_for(place.ended.get(), 20)

    assert ended.error is not None
    assert ended.error.type == error
    assert ended.retryable is retryable


async def test_an_attempt_is_told_with_what_it_cost(place: Place) -> None:
    place.start("one", "burn", seconds=0.05)
    _, _, ended = await asyncio.wait_for(place.ended.get(), 20)

    assert ended.error is None
    assert ended.cpu_seconds >= 0.05
    assert ended.run_seconds >= 0.05
    assert ended.memory_bytes > 1 << 20


async def test_a_stopped_attempt_keeps_its_first_verdict(place: Place, tmp_path: Path) -> None:
    attempt = place.start("one", "spin", started=str(tmp_path / "started"))

    place.lane.stop(attempt, Verdict.LOST)
    place.lane.stop(attempt, Verdict.CANCELLED)

    assert (await asyncio.wait_for(place.ended.get(), 20))[:2] == ("one", Verdict.LOST)
