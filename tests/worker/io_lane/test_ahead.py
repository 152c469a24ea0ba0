"""The IO lane by itself: how far it claims ahead, and what becomes of a wrong guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import worker.ahead
import worker.io
from tests.worker.hosting import registry_of
from twolane import job, wire
from twolane.registry import MARK
from twolane.store import ClaimedJob
from worker.ahead import SMOOTHING
from worker.attempt import Attempt, Ended, Verdict
from worker.engine import Retry
from worker.exchange import CONVERSATIONS, PORTION
from worker.io import IoLane


@job
async def quick(number: int = 0) -> int:
    return number


class Place:
    """A lane of one slot, and the ends that it reports."""

    def __init__(self, slots: int = 1) -> None:
        self.go = asyncio.Event()
        self.ran: list[str] = []
        self._begun: asyncio.Queue[str] = asyncio.Queue()

        @job
        async def wait(ctx: dict[str, Any]) -> None:
            self.ran.append(ctx["job_id"])
            self._begun.put_nowait(ctx["job_id"])
            await self.go.wait()

        @job
        async def hold_on(ctx: dict[str, Any]) -> None:
            self._begun.put_nowait(ctx["job_id"])
            while not self.go.is_set():
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    continue

        self.jobs = {one.__name__: getattr(one, MARK) for one in (quick, wait, hold_on)}
        registry = registry_of((quick, wait, hold_on))
        self.lane = IoLane(registry, {}, slots, self._finish, Retry)
        self.ended: asyncio.Queue[tuple[str, Verdict | None, Ended]] = asyncio.Queue()

    def _finish(self, attempt: Attempt, ended: Ended) -> None:
        self.ended.put_nowait((attempt.id, attempt.verdict, ended))

    def start(self, job_id: str, name: str = "quick", *args: Any) -> Attempt:
        attempt = Attempt(ClaimedJob(job_id, b"", 1, 0, False, b"fence"), 0)
        attempt.job = self.jobs[name]
        attempt.payload = wire.Payload(name, msgspec.Raw(wire.dumps(args)), msgspec.Raw(b"\x80"), 0)
        self.lane.start(attempt)
        return attempt

    async def begin(self) -> str:
        return await asyncio.wait_for(self._begun.get(), 20)

    async def end(self) -> tuple[str, Verdict | None, Ended]:
        return await asyncio.wait_for(self.ended.get(), 20)

    async def run(self, job_id: str, name: str = "quick") -> None:
        self.start(job_id, name)
        await self.end()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are short, and jobs ahead patient, however busy the machine is."""
    monkeypatch.setattr(worker.io, "SHORT_SECONDS", 60.0)
    monkeypatch.setattr(worker.ahead, "AHEAD_SECONDS", 60.0)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    made.go.set()
    await made.lane.close()


async def test_nothing_is_claimed_ahead_before_a_job_has_run(place: Place) -> None:
    assert place.lane.ahead() == 0


async def test_short_jobs_are_claimed_ahead_one_a_slot(place: Place) -> None:
    await place.run("one")

    assert place.lane.ahead() == 1


@pytest.mark.parametrize(
    ("slots", "ahead"),
    [(32, 32), (80, CONVERSATIONS * PORTION - 80), (CONVERSATIONS * PORTION, 0), (500, 0)],
)
async def test_no_more_are_claimed_ahead_than_fill_two_portions(slots: int, ahead: int) -> None:
    place = Place(slots)
    await place.run("one")

    assert place.lane.ahead() == ahead


async def test_after_long_jobs_none_is_claimed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.io, "SHORT_SECONDS", 0.005)
    place = Place()
    await place.run("one")
    place.start("long", "wait")
    asyncio.get_running_loop().call_later(2 * worker.io.SHORT_SECONDS / SMOOTHING, place.go.set)
    await place.end()

    assert place.lane.ahead() == 0


async def test_jobs_ahead_run_in_turn_and_no_more_at_once_than_slots(place: Place) -> None:
    for one in ("a", "b", "c"):
        place.start(one, "wait")
    assert await place.begin() == "a"
    assert place.ran == ["a"]  # another one would have begun in the same turn of the loop
    place.go.set()

    assert [(await place.end())[:2] for _ in range(3)] == [("a", None), ("b", None), ("c", None)]


async def test_a_job_ahead_of_a_long_one_is_handed_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.ahead, "AHEAD_SECONDS", 0.01)
    await place.run("one")

    place.start("long", "wait")
    place.start("ahead")

    assert (await place.end())[:2] == ("ahead", Verdict.RELEASED)
    assert place.lane.ahead() == 0
    place.go.set()
    assert (await place.end())[:2] == ("long", None)


@pytest.mark.parametrize("verdict", [Verdict.CANCELLED, Verdict.RELEASED, Verdict.LOST])
async def test_a_job_ahead_that_is_stopped_ends_at_once_and_never_runs(
    place: Place, verdict: Verdict
) -> None:
    place.start("long", "wait")
    waiting = place.start("ahead", "wait")
    place.lane.stop(waiting, verdict)

    assert (await place.end())[:2] == ("ahead", verdict)
    place.go.set()
    assert (await place.end())[0] == "long"
    assert place.ran == ["long"]
    assert place.ended.empty()


async def test_a_job_ahead_that_cannot_start_ends_and_the_next_one_runs(place: Place) -> None:
    place.start("long", "wait")
    place.start("unfit", "quick", 1, 2, 3)
    place.start("fit", "quick", 4)
    place.go.set()

    ends = [await place.end() for _ in range(3)]

    assert [one[0] for one in ends] == ["long", "unfit", "fit"]
    assert ends[1][2].error is not None
    assert ends[1][2].error.type == "BadArguments"
    assert not ends[1][2].retryable
    assert wire.loads(ends[2][2].result) == 4


async def test_the_slot_of_a_job_that_does_not_let_go_is_used_for_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.io, "CANCEL_GRACE_SECONDS", 0.01)
    stuck = place.start("stuck", "hold_on")
    place.start("next")
    await place.begin()
    place.lane.stop(stuck, Verdict.TIMED_OUT)

    assert [(await place.end())[0] for _ in range(2)] == ["stuck", "next"]


async def test_a_job_ahead_whose_lease_is_not_kept_any_more_does_not_run(place: Place) -> None:
    place.start("long", "wait")
    held = place.start("ahead", "wait")
    assert held.deadline < time.monotonic() + 60
    held.deadline = time.monotonic() - 0.001
    place.go.set()

    assert [(await place.end())[:2] for _ in range(2)] == [
        ("long", None),
        ("ahead", Verdict.RELEASED),
    ]
    assert place.ran == ["long"]


async def test_the_wait_for_a_slot_counts_as_waiting(place: Place) -> None:
    place.start("long", "wait")
    waiting = place.start("ahead")
    asyncio.get_running_loop().call_later(0.05, place.go.set)
    await place.end()
    await place.end()

    assert waiting.started_ms >= 40
