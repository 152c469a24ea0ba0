"""What an application made for arq sees: its results, hooks, cron jobs, log and exit codes."""

from __future__ import annotations

import signal
from pathlib import Path

import arq
import msgspec
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import JobStatus
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.e2e.arq.conftest import OURS, POLL, THEIRS, Launch, enqueued, keys_left, noted
from tests.e2e.conftest import wait_noted
from twolane import address, keys


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


async def test_nothing_but_arq_s_own_keys_is_left_behind(
    client: Redis, pool: ArqRedis, launch: Launch
) -> None:
    await enqueued(pool, "add", 1, 2, _job_id="one")
    await enqueued(pool, "fail", "it", _job_id="two")
    await enqueued(pool, "again", "retry", _job_id="three")

    assert await launch("WorkerSettings", "--burst").wait() == 0

    assert await keys_left(client) == {keys.result(one) for one in ("one", "two", "three")}


async def test_an_error_in_the_application_s_start_is_shown_whole(launch: Launch) -> None:
    """It was taken for one of standard output, and told in three words."""
    process = launch("Unlucky")

    assert await process.wait() == 1
    assert "Traceback" in process.log
    assert process.log.splitlines()[-1] == "ConnectionRefusedError: the application's database"


@pytest.mark.parametrize(
    ("settings", "said"),
    [("Stranger", "refuses the user or the password"), ("FarAway", "DB index is out of range")],
)
async def test_a_server_that_refuses_the_settings_is_told_with_its_exit_code(
    launch: Launch, settings: str, said: str
) -> None:
    process = launch(settings)

    assert await process.wait() == 3
    assert said in process.log.splitlines()[-1]
    assert "s3cret" not in process.log
