"""``twolane arq`` in the place of ``arq``, as a process, with an application made for arq."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import arq
import msgspec
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, JobStatus
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.e2e.conftest import ROOT, WorkerProcess, wait_noted
from twolane import address, keys
from twolane.broker import connect
from twolane.embedded import Embedded

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
    made = await pool.enqueue_job(function, *args, **options)  # type: ignore[arg-type]
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


# -- What an application sees --


async def test_an_application_s_jobs_have_the_results_that_arq_gives_them(
    pool: ArqRedis, launch: Launch
) -> None:
    launch("WorkerSettings")

    made = await enqueued(pool, "add", 2, right=3)

    assert await made.result(timeout=10, poll_delay=POLL) == 5
    info = await made.result_info()
    assert info is not None
    assert (info.function, info.args, info.kwargs) == ("add", (2,), {"right": 3})
    assert (info.success, info.job_try, info.job_id) == (True, 1, made.job_id)
    assert info.queue_name == keys.IO_QUEUE
    assert info.enqueue_time <= info.start_time <= info.finish_time
    assert await made.status() is JobStatus.complete
    failed = await enqueued(pool, "fail", "no such luck")
    with pytest.raises(ValueError, match="no such luck"):  # its own class: pickle, as in arq
        await failed.result(timeout=10, poll_delay=POLL)


async def test_hooks_run_in_arq_s_order_and_see_what_arq_s_see(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    await enqueued(pool, "say", _job_id="one")

    assert await launch("Hooks").wait() == 0

    assert [line.decode() for line in await client.lrange("test:hooks", 0, -1)] == [
        "on_startup None False",
        "on_job_start one True",
        "job one True",
        "on_job_end recorded=0 one True",
        "after_job_end recorded=1 one True",
        "on_shutdown None False",
    ]


@pytest.mark.parametrize("how", ["retry", "retry-job"])
async def test_a_job_that_asks_for_it_is_tried_again(
    pool: ArqRedis, launch: Launch, how: str
) -> None:
    launch("WorkerSettings")

    made = await enqueued(pool, "again", how)

    assert await made.result(timeout=10, poll_delay=POLL) == 3


async def test_a_job_is_tried_no_more_often_than_its_max_tries(
    pool: ArqRedis, launch: Launch
) -> None:
    worker = launch("WorkerSettings")

    made = await enqueued(pool, "twice", "retry")

    with pytest.raises(arq.worker.JobExecutionFailed, match="max 2 retries exceeded"):
        await made.result(timeout=10, poll_delay=POLL)
    assert "twice max retries 2 exceeded" in worker.log


async def test_a_job_past_its_timeout_fails_with_a_timeout_error(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    launch("WorkerSettings")

    made = await enqueued(pool, "short", "late")

    with pytest.raises(TimeoutError):
        await made.result(timeout=10, poll_delay=POLL)
    assert len(await wait_noted(notes, "late.1.*.cancelled")) == 1


async def test_results_are_kept_as_long_as_the_function_says(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    for name in ("add", "forgotten", "kept"):
        await enqueued(pool, name, 1, 2, _job_id=name)

    assert await launch("WorkerSettings", "--burst").wait() == 0

    assert 3_590 < await client.ttl(keys.result("add")) <= 3_600
    assert await client.ttl(keys.result("kept")) == -1
    assert await keys_left(client) == {keys.result("add"), keys.result("kept")}


async def test_a_running_and_a_deferred_job_are_aborted(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    worker = launch("WorkerSettings")
    running = await enqueued(pool, "hold", "held", _job_id="running")
    deferred = await enqueued(pool, "hold", "never", _job_id="deferred", _defer_by=3600)
    await wait_noted(notes, "held.1.*")

    assert await running.abort(timeout=10, poll_delay=POLL)
    assert await deferred.abort(timeout=10, poll_delay=POLL)

    assert "⊘ running:hold aborted" in worker.log
    assert "⊘ deferred:hold aborted before start" in worker.log
    assert await client.exists(keys.ABORTS, keys.IO_QUEUE) == 0
    assert not any("never" in one for one in noted(notes))


async def test_a_cron_job_runs_once_each_time_whatever_the_workers_are(
    client: Redis, launch: Launch
) -> None:
    for command in (OURS, OURS, THEIRS):
        launch("Cron", command=command)

    async def ticked() -> bool:
        return await client.llen("test:ticks") >= 3

    await wait_until(ticked, "three seconds' runs")

    ticks = [keys.id_of(one) for one in await client.lrange("test:ticks", 0, -1)]
    times = [int(one.removeprefix("cron:tick:")) for one in ticks]
    assert all(time_ms % 1000 == 0 for time_ms in times)
    assert len(set(times)) == len(times)
    # As in arq, the key outlives the job, so that no late worker runs it again.
    assert await client.ttl(keys.in_progress(ticks[0])) > 0


async def test_the_application_s_own_serializer_is_used(
    client: Redis, broker: str, launch: Launch
) -> None:
    pool = await arq.create_pool(
        RedisSettings(unix_socket_path=address.parse(broker).path),
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )
    made = await enqueued(pool, "add", 2, 3, _job_id="packed")

    assert await launch("Packed").wait() == 0

    assert await made.result(timeout=10, poll_delay=POLL) == 5
    assert msgspec.msgpack.decode(await client.get(keys.result("packed")))["r"] == 5
    await pool.aclose()


async def test_the_health_check_answers_with_arq_s_exit_codes(
    client: Redis, launch: Launch
) -> None:
    before = launch("WorkerSettings", "--check")
    assert await before.wait() == 1
    assert "Health check failed: no health check sentinel value found" in before.log

    worker = launch("WorkerSettings")

    async def healthy() -> bool:
        return bool(await client.exists("arq:queue:health-check"))

    await wait_until(healthy, "the health check's key")
    for command in (OURS, THEIRS):
        assert await launch("WorkerSettings", "--check", command=command).wait() == 0

    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0
    assert await launch("WorkerSettings", "--check").wait() == 1


async def test_the_log_has_arq_s_lines(pool: ArqRedis, launch: Launch) -> None:
    import re

    logs = []
    for command in (OURS, THEIRS):
        await pool.flushall()
        await enqueued(pool, "add", 2, right=3, _job_id="one")
        await enqueued(pool, "fail", "no such luck", _job_id="two", _defer_by=0.1)
        await enqueued(pool, "unknown", _job_id="three", _defer_by=0.2)
        await enqueued(pool, "again", "retry", _job_id="four", _defer_by=0.3)
        process = launch("WorkerSettings", "--burst", command=command)
        assert await process.wait() == 0
        lines = [line for line in process.log.splitlines() if "↻" in line or "job" in line
                 or any(f" {mark} " in line for mark in "→←!⊘")]  # fmt: skip
        cleaned = [re.sub(r"\d\d:\d\d:\d\d|\d+\.\d\ds", "#", line) for line in lines]
        logs.append([re.sub(r" delayed=#", "", line) for line in cleaned if "File" not in line])

    assert sorted(logs[0]) == sorted(logs[1])
    assert any("← one:add ● 5" in line for line in logs[0])
    assert any("! two:fail failed, ValueError: no such luck" in line for line in logs[0])


async def test_settings_that_are_not_there_are_a_usage_error(launch: Launch) -> None:
    process = launch("NoSettings")

    assert await process.wait() == 2
    assert process.log.count("\n") == 1
    assert 'does not define a "NoSettings"' in process.log


async def test_a_server_that_is_not_there_is_told_with_its_exit_code(
    launch: Launch, tmp_path: Path
) -> None:
    process = launch("WorkerSettings", url=f"unix://{tmp_path}/none.sock")

    assert await process.wait() == 3
    assert "Traceback" not in process.log
    assert "redis_settings" in process.log.splitlines()[-1]
    check = launch("WorkerSettings", "--check", url=f"unix://{tmp_path}/none.sock")
    assert await check.wait() == 1
    assert "Health check failed" in check.log
    assert "Traceback" not in check.log


# -- What arq does not do --


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
    launch("WorkerSettings", "--lease", "0.5")
    made = await enqueued(pool, "block", 2.0)
    await wait_noted(notes, "block.1")
    launch("WorkerSettings", "--lease", "0.5")

    assert await made.result(timeout=10, poll_delay=POLL) == 1
    assert noted(notes).count("block.2") == 0


async def test_a_job_longer_than_the_lease_runs_once(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "hold", "long")
    launch("WorkerSettings", "--lease", "0.5")
    launch("WorkerSettings", "--lease", "0.5")
    await wait_noted(notes, "long.1.*")
    first_end = await client.zscore(keys.IO_QUEUE, made.job_id)

    async def renewed_twice() -> bool:
        # Twice the lease later than at first: without renewal it would be another's by now.
        return bool(await client.zscore(keys.IO_QUEUE, made.job_id) >= first_end + 1_000)

    await wait_until(renewed_twice, "renewals")
    (notes / "go").touch()

    assert (await made.result(timeout=10, poll_delay=POLL)).startswith("long.1.")
    assert len([one for one in noted(notes) if one.startswith("long.")]) == 1


async def test_sigterm_cancels_running_jobs_which_are_tried_again(
    client: Redis, pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "first_holds", _job_id="one")
    worker = launch("WorkerSettings")
    await wait_noted(notes, "first.1.*")

    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0

    assert "shutdown on SIGTERM ◆ 0 jobs complete ◆ 0 failed ◆ 0 retries ◆ 1 ongoing" in worker.log
    assert "one:first_holds cancelled, will be run again" in worker.log
    assert (notes / "shutdown").exists()
    assert await made.status() is JobStatus.queued  # at once: there is no lease to wait for
    launch("WorkerSettings")
    assert await made.result(timeout=10, poll_delay=POLL) == 2


async def test_job_completion_wait_lets_jobs_end_after_sigterm(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    made = await enqueued(pool, "hold", "held", _job_id="one")
    worker = launch("Patient")
    await wait_noted(notes, "held.1.*")

    worker.send(signal.SIGTERM)
    await worker.wait_logged("1 to be completed")
    late = await enqueued(pool, "hold", "late")
    (notes / "go").touch()

    assert await worker.wait() == 0
    assert "wait complete ◆ 1 jobs complete ◆ 0 failed ◆ 0 retries ◆ 0 ongoing" in worker.log
    assert (await made.result(timeout=1, poll_delay=POLL)).startswith("held.1.")
    assert await late.status() is JobStatus.queued


async def test_a_job_that_exits_costs_no_other_job_its_worker(
    pool: ArqRedis, launch: Launch
) -> None:
    worker = launch("WorkerSettings")

    left = await enqueued(pool, "leave")
    with pytest.raises(arq.worker.JobExecutionFailed, match="SystemExit: 3"):
        await left.result(timeout=10, poll_delay=POLL)

    made = await enqueued(pool, "add", 1, 2)
    assert await made.result(timeout=10, poll_delay=POLL) == 3
    assert worker.is_running


async def test_a_plain_producer_wakes_an_idle_worker_that_does_not_poll(
    pool: ArqRedis, launch: Launch, notes: Path
) -> None:
    worker = launch("Slow", "-v")
    for number in range(3):
        made = await enqueued(pool, "add", 1, number)
        assert await made.result(timeout=10, poll_delay=POLL) == 1 + number
    soon = await enqueued(pool, "add", 1, 2, _defer_by=0.3)
    assert await soon.result(timeout=10, poll_delay=POLL) == 3
    outer = await enqueued(pool, "parent")
    assert await outer.result(timeout=10, poll_delay=POLL) == "child"
    assert await Job("child", pool).result(timeout=10, poll_delay=POLL) == 3

    held = await enqueued(pool, "hold", "held")
    await wait_noted(notes, "held.1.*")
    assert await held.abort(timeout=10, poll_delay=POLL)
    assert "the server tracks no keys" not in worker.log


async def test_a_worker_whose_connections_were_cut_is_woken_again(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    worker = launch("Slow")
    made = await enqueued(pool, "add", 1, 1)
    assert await made.result(timeout=10, poll_delay=POLL) == 2

    await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await worker.wait_logged("broker back while listening for work")

    made = await enqueued(pool, "add", 1, 2)
    assert await made.result(timeout=10, poll_delay=POLL) == 3


async def test_a_server_that_tracks_no_keys_is_polled(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    await client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
    try:
        worker = launch("WorkerSettings", "-v")
        await worker.wait_logged("the server tracks no keys for us")
        made = await enqueued(pool, "add", 1, 2)
        assert await made.result(timeout=10, poll_delay=POLL) == 3
    finally:
        await client.execute_command("ACL", "SETUSER", "default", "+client|tracking")


async def test_a_restart_of_the_server_is_survived(launch: Launch, notes: Path) -> None:
    server = Embedded.for_user("always")
    await asyncio.to_thread(server.start)
    client = connect(server.url)
    pool = await pool_of(server.url)
    worker = launch("WorkerSettings", url=server.url)
    running = await enqueued(pool, "hold", "held")
    await wait_noted(notes, "held.1.*")

    await asyncio.to_thread(server.stop)
    await worker.wait_logged("broker away while polling the queue")
    (notes / "go").touch()  # the job ends while the server is away
    await worker.wait_logged("broker away while recording results")
    await asyncio.to_thread(server.start)

    assert (await running.result(timeout=10, poll_delay=POLL)).startswith("held.")
    made = await enqueued(pool, "add", 1, 2)
    assert await made.result(timeout=10, poll_delay=POLL) == 3
    assert worker.is_running
    assert "Traceback" not in worker.log
    worker.send(signal.SIGTERM)
    assert await worker.wait() == 0
    await pool.aclose()
    await client.aclose()
    await asyncio.to_thread(server.stop)


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


async def test_nothing_but_arq_s_own_keys_is_left_behind(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    await enqueued(pool, "add", 1, 2, _job_id="one")
    await enqueued(pool, "fail", "it", _job_id="two")
    await enqueued(pool, "again", "retry", _job_id="three")

    assert await launch("WorkerSettings", "--burst").wait() == 0

    assert await keys_left(client) == {keys.result(one) for one in ("one", "two", "three")}
