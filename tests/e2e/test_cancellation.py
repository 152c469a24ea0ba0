"""Jobs that are cancelled while they run, by real workers."""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from producer.cancel import cancel_run
from tests.conftest import wait_until
from tests.e2e.conftest import Start, alive, wait_noted
from tests.worker.hosting import enqueue, outcomes
from twolane.registry import Registry


async def test_a_running_io_job_is_cancelled(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    start("io")
    run = await enqueue(client, registry, "wait_for_go", *[{"directory": str(notes)}] * 2)
    await wait_noted(notes, "*", 2)

    assert await cancel_run(client, run) == (0, 2)
    ended = await outcomes(client, run)

    assert [one.cancelled for one in ended] == [True, True]
    await wait_noted(notes, "*.cancelled", 2)


async def test_a_running_cpu_job_is_cancelled_with_its_process_and_the_waiting_one_too(
    client: Redis, registry: Registry, start: Start, notes: Path
) -> None:
    worker = start("cpu", "--processes", "1")
    run = await enqueue(
        client, registry, "hold", *[{"directory": str(notes), "name": f"held-{n}"} for n in "ab"]
    )
    await wait_noted(notes, "held-a")
    pid = int((notes / "held-a").read_text())

    assert await cancel_run(client, run) == (1, 1)
    ended = await outcomes(client, run)
    (after,) = await outcomes(client, await enqueue(client, registry, "own_pid"))

    assert [one.cancelled for one in ended] == [True, True]
    assert after.result != pid
    assert worker.is_running

    async def gone() -> bool:
        return not alive(pid)

    await wait_until(gone, "the end of the job's process")
