"""Jobs that are timed out or stopped: each ends once, whatever it makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

import worker.io
from tests.conftest import wait_until
from tests.worker.io_lane.bench import Bench
from tests.worker.io_lane.jobs import (
    add,
    block,
    clean_up_slowly,
    return_although_cancelled,
    wait_forever,
)
from twolane import job, wire
from worker.attempt import Verdict


@pytest.mark.parametrize("function", [wait_forever, clean_up_slowly, return_although_cancelled])
async def test_a_job_over_its_timeout_fails_whatever_it_makes_of_it(
    bench: Bench, function: Callable[..., Any]
) -> None:
    ended = await bench.end_of(function)

    assert ended.error is not None
    assert ended.error.type == "JobTimeout"
    assert "0.05 s" in ended.error.message
    assert ended.run_seconds >= 0.04  # a timer may go off early by its resolution


async def test_timeouts_of_a_second_and_more_are_kept_one_by_one() -> None:
    # They are looked at together, not with a timer each.
    @job(timeout=1.0)
    async def wait_a_second() -> None:
        await asyncio.Event().wait()

    @job(timeout=60.0)
    async def wait_a_minute() -> None:
        await asyncio.Event().wait()

    bench = Bench(wait_a_second, wait_a_minute)
    bench.start(wait_a_minute)
    late = [bench.start(wait_a_second) for _ in range(3)]
    ended = await bench.wait_ended(3)

    assert {attempt for attempt, _ in bench.ended} == set(late)
    assert [one.error.type for one in ended if one.error] == ["JobTimeout"] * 3
    assert all(one.run_seconds >= 1.0 for one in ended)
    await bench.lane.close()


async def test_a_thread_over_its_timeout_is_left_behind() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    let_go, threads = threading.Event(), []

    @job(lane="io", timeout=0.05)
    def block_until() -> None:
        threads.append(threading.current_thread())
        let_go.wait(60)

    bench = Bench(block_until)
    ended = await bench.end_of(block_until)

    assert ended.error is not None
    assert ended.error.type == "JobTimeout"
    assert threads[0].is_alive()
    let_go.set()
    await asyncio.to_thread(threads[0].join, 10)
    assert not threads[0].is_alive()
    await bench.lane.close()
    assert len(bench.ended) == 1
    assert complaints == []


def test_a_thread_that_outlives_its_loop_ends_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)
    let_go, threads = threading.Event(), []

    @job(lane="io")
    def block_until() -> None:
        threads.append(threading.current_thread())
        let_go.wait(60)

    async def begin() -> None:
        Bench(block_until).start(block_until)
        await wait_until(lambda: threads, "the thread")

    asyncio.run(begin())
    let_go.set()
    threads[0].join(10)

    assert not threads[0].is_alive()
    assert complaints == []


async def test_a_lease_is_kept_for_the_jobs_timeout_and_the_grace_and_no_longer(
    bench: Bench,
) -> None:
    attempt = bench.start(wait_forever)

    kept = attempt.deadline - attempt.started
    assert kept == pytest.approx(0.05 + 2 * worker.io.CANCEL_GRACE_SECONDS)
    await bench.wait_ended()


async def test_threads_that_do_not_end_leave_the_lane_able_to_run_others() -> None:
    # Four slots, and so four threads: a fifth job once waited for one of them to come back.
    let_go = threading.Event()

    @job(lane="io", timeout=0.05)
    def block_until() -> None:
        let_go.wait(60)

    bench = Bench(block_until, block)
    for _ in range(4):
        bench.start(block_until)
    await bench.wait_ended(4)

    try:
        bench.start(block, "not kept waiting")
        ended = (await bench.wait_ended(5))[4]
    finally:
        let_go.set()

    assert wire.loads(ended.result)[0] == "not kept waiting"


@pytest.mark.parametrize("verdict", [Verdict.CANCELLED, Verdict.RELEASED, Verdict.LOST])
async def test_a_stopped_job_ends_with_the_first_verdict(verdict: Verdict) -> None:
    began = asyncio.Event()

    @job
    async def clean_up() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)

    bench = Bench(clean_up)
    attempt = bench.start(clean_up)
    await began.wait()

    bench.lane.stop(attempt, verdict)
    bench.lane.stop(attempt, Verdict.TIMED_OUT)
    await bench.wait_ended()

    assert attempt.verdict is verdict
    assert len(bench.ended) == 1


async def test_a_job_that_swallows_cancellation_loses_its_slot_after_the_grace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker.io, "CANCEL_GRACE_SECONDS", 0.1)
    let_go = asyncio.Event()

    @job(timeout=0.05)
    async def swallow() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    bench = Bench(swallow)
    task = bench.start(swallow).handle
    assert isinstance(task, asyncio.Task)
    try:
        (ended,) = await bench.wait_ended()
        assert not task.done()
    finally:
        let_go.set()
        await asyncio.wait([task])

    assert ended.error is not None
    assert ended.error.type == "JobTimeout"
    assert "(swallow) did not end within 0.1 s of being cancelled" in caplog.text
    await bench.lane.close()
    assert len(bench.ended) == 1


async def test_a_job_that_ended_in_time_is_not_stopped_any_more(bench: Bench) -> None:
    attempt = bench.start(add, 1)
    (ended,) = await bench.wait_ended()

    bench.lane.stop(attempt, Verdict.CANCELLED)

    assert attempt.verdict is None
    assert ended.error is None
    assert len(bench.ended) == 1
