"""The meter: what a coroutine used of its loop, and that stepping it changes nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from worker.meter import Gauge, JobExited, Meter, metered


def burn(seconds: float) -> None:
    """Compute for that many CPU seconds of this thread, however busy the machine is."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def measure(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, Meter]:
    meter = Meter("job")
    return await metered(coroutine, meter, Gauge()), meter


async def test_a_computing_job_is_charged_and_a_waiting_one_is_not() -> None:
    async def compute() -> None:
        for _ in range(5):
            burn(0.02)
            await asyncio.sleep(0)

    async def wait() -> None:
        for _ in range(5):
            await asyncio.sleep(0.02)

    _, computed = await measure(compute())
    _, waited = await measure(wait())

    assert computed.cpu_seconds >= 0.1
    assert waited.cpu_seconds < computed.cpu_seconds / 5


async def test_the_cpu_seconds_of_others_on_the_loop_are_not_charged() -> None:
    waits, done = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waits.set()
        await done.wait()

    async def compute() -> None:
        burn(0.1)
        done.set()

    waiting = asyncio.create_task(measure(wait()))
    await waits.wait()
    _, computed = await measure(compute())
    _, waited = await waiting

    assert waited.cpu_seconds < computed.cpu_seconds / 5


async def test_the_longest_hold_is_that_of_one_step_and_not_the_sum() -> None:
    async def hold() -> None:
        for seconds in (0.02, 0.1, 0.02, 0.02, 0.02, 0.02):
            time.sleep(seconds)  # noqa: ASYNC251  (what a job should not do)
            await asyncio.sleep(0)

    began = time.perf_counter()
    _, meter = await measure(hold())
    elapsed = time.perf_counter() - began

    assert 0.1 <= meter.longest_hold <= elapsed - 0.1, "the other steps took 0.1 s at the least"


async def test_blocking_holds_the_loop_without_using_the_cpu() -> None:
    async def block() -> None:
        time.sleep(0.1)  # noqa: ASYNC251  (what a job should not do)

    _, meter = await measure(block())

    assert meter.longest_hold >= 0.1
    assert meter.cpu_seconds < meter.longest_hold / 5


async def test_the_gauge_names_who_holds_the_loop_and_for_how_long() -> None:
    gauge, meter = Gauge(), Meter("job")
    seen: list[Meter | None] = []
    looked, go = asyncio.Event(), asyncio.Event()

    async def look() -> None:
        seen.append(gauge.current)
        looked.set()
        await go.wait()
        seen.append(gauge.current)

    before = time.perf_counter()
    task = asyncio.create_task(metered(look(), meter, gauge))
    await looked.wait()
    seen.append(gauge.current)
    go.set()
    await task

    assert seen == [meter, None, meter]
    assert gauge.current is None
    assert gauge.began >= before


async def test_values_and_exceptions_pass_through() -> None:
    async def ask(future: asyncio.Future[int]) -> int:
        try:
            return await future
        except LookupError:
            return -1

    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()
    good.set_result(7)
    bad.set_exception(LookupError())

    assert (await measure(ask(good)))[0] == 7
    assert (await measure(ask(bad)))[0] == -1
    with pytest.raises(ValueError, match="no such luck"):
        await measure(_raise(ValueError("no such luck")))


async def _raise(error: BaseException) -> None:
    raise error


async def test_cancellation_reaches_the_job_once() -> None:
    reached: list[str] = []
    began = asyncio.Event()

    async def clean_up() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reached.append("cancelled")
            await asyncio.sleep(0)
            reached.append("cleaned up")
            raise

    task = asyncio.create_task(measure(clean_up()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert reached == ["cancelled", "cleaned up"]


async def test_timeouts_and_task_groups_work_within_a_job() -> None:
    async def use_both() -> list[str]:
        notes = []
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            notes.append("timed out")
        async with asyncio.TaskGroup() as group:
            two = group.create_task(asyncio.sleep(0, "two"))
        return [*notes, two.result()]

    assert (await measure(use_both()))[0] == ["timed out", "two"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_what_would_end_the_loop_becomes_an_ordinary_exception(error: BaseException) -> None:
    with pytest.raises(JobExited) as caught:
        await measure(_raise(error))

    assert caught.value.__cause__ is error


async def test_a_job_that_fails_is_metered_to_its_end() -> None:
    async def burn_and_fail() -> None:
        burn(0.05)
        raise ValueError("burnt")

    meter, gauge = Meter("job"), Gauge()
    with pytest.raises(ValueError, match="burnt"):
        await metered(burn_and_fail(), meter, gauge)

    assert meter.cpu_seconds >= 0.05
    assert gauge.current is None


async def test_closing_it_closes_the_job() -> None:
    closed = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    coroutine = metered(wait(), Meter("job"), Gauge())
    coroutine.send(None)
    coroutine.close()

    assert closed == [True]
