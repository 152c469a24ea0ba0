"""What arq does not do: leases, fences, and workers beside stock ones."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from arq.connections import ArqRedis
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.e2e.arq.conftest import OURS, POLL, THEIRS, Launch, enqueued, noted, noticed
from tests.e2e.conftest import wait_noted
from twolane import keys


async def test_a_killed_worker_s_job_runs_elsewhere_within_the_lease(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "first_holds")
    doomed = launch("WorkerSettings")
    await wait_noted(notes, "first.1.*")
    assert 0 < await client.pttl(keys.in_progress(made.job_id)) <= 1_000

    doomed.send(signal.SIGKILL)
    await doomed.wait()
    launch("WorkerSettings")

    assert await made.result(timeout=15, poll_delay=POLL) == 2


async def test_a_stock_worker_takes_over_from_a_killed_one(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "first_holds")
    doomed = launch("WorkerSettings")
    await wait_noted(notes, "first.1.*")

    doomed.send(signal.SIGKILL)
    await doomed.wait()
    launch("WorkerSettings", command=THEIRS)

    assert await made.result(timeout=15, poll_delay=POLL) == 2


async def test_a_paused_worker_cannot_overwrite_a_result(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "hold", "held")
    paused = launch("WorkerSettings")
    await wait_noted(notes, "held.1.*")

    paused.send(signal.SIGSTOP)
    heir = launch("WorkerSettings")
    await wait_noted(notes, "held.2.*")
    (notes / "go").touch()  # when it goes on, the paused worker's job ends too
    first = await made.result(timeout=10, poll_delay=POLL)
    recorded = await client.get(keys.result(made.job_id))
    paused.send(signal.SIGCONT)
    # Whichever notices first: the thread that renews, or the script that records.
    await wait_until(noticed(paused), "the paused worker's notice")

    assert first == f"held.2.{heir.pid}"
    assert await client.get(keys.result(made.job_id)) == recorded


async def test_a_job_that_blocks_the_loop_keeps_its_lease(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    launch("WorkerSettings", "--lease", "2")
    made = await enqueued(pool, "block", 3.0)
    await wait_noted(notes, "block.1")
    launch("WorkerSettings", "--lease", "2")

    assert await made.result(timeout=10, poll_delay=POLL) == 1
    assert noted(notes).count("block.2") == 0


async def test_a_job_longer_than_the_lease_runs_once(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "hold", "long")
    launch("WorkerSettings", "--lease", "1")
    launch("WorkerSettings", "--lease", "1")
    await wait_noted(notes, "long.1.*")
    first_end = await client.zscore(keys.IO_QUEUE, made.job_id)

    async def renewed_twice() -> bool:
        # Twice the lease later than at first: without renewal it would be another's by now.
        return bool(await client.zscore(keys.IO_QUEUE, made.job_id) >= first_end + 2_000)

    await wait_until(renewed_twice, "renewals")
    (notes / "go").touch()

    assert (await made.result(timeout=10, poll_delay=POLL)).startswith("long.1.")
    assert len([one for one in noted(notes) if one.startswith("long.")]) == 1


async def test_a_mixed_fleet_runs_each_job_once(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    made = [await enqueued(pool, "alone", _job_id=f"job-{number}") for number in range(200)]
    fleet = [launch("WorkerSettings", command=one) for one in (OURS, THEIRS, OURS, THEIRS)]

    pids = await asyncio.gather(*[one.result(timeout=30, poll_delay=0.05) for one in made])

    assert set(pids) <= {process.pid for process in fleet}
    tries = [info.job_try for one in made if (info := await one.result_info())]
    assert tries == [1] * len(made)
    assert await client.zcard(keys.IO_QUEUE) == 0
