"""``cancel``: a run, or single jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from tests.cli.conftest import SAMPLES, Run
from tests.conftest import wait_until
from twolane import runs


def test_a_run_that_waits_is_cancelled(twolane: Run) -> None:
    twolane("enqueue", "query", "--run", "a", "--count", "3")

    assert twolane("cancel", "a") == (
        0,
        "3 waiting jobs cancelled, 0 running jobs being stopped\n",
        "",
    )

    assert json.loads(twolane("runs", "--json").out)[0]["cancelled"] == 3


def test_jobs_and_runs_are_named_together(twolane: Run) -> None:
    twolane("enqueue", "query", "--run", "a", "--count", "3")
    twolane("enqueue", "query", "--run", "b", "--count", "2")

    ended = twolane("cancel", "a-0000001", "b", "--json")

    assert json.loads(ended.out) == {"cancelled": 3, "stopping": 0}


def test_what_is_neither_run_nor_job_is_a_usage_error(twolane: Run) -> None:
    code, out, err = twolane("cancel", "nope")

    assert (code, out) == (2, "")
    assert err.startswith("Error: 'nope' is no run, and no job of that id waits or runs")


def test_a_target_must_be_named(twolane: Run) -> None:
    code, out, err = twolane("cancel")

    assert (code, out) == (2, "")
    assert "RUN|JOB-ID" in err


async def test_what_runs_is_stopped_by_its_worker(
    twolane: Run, client: Redis, start_worker: Callable[..., Any]
) -> None:
    await start_worker("io")
    twolane("enqueue", "job", "wait_long", SAMPLES, "--run", "long")
    await wait_until(lambda: client.exists("arq:in-progress:long-0000000"), "the job runs")

    assert json.loads(twolane("cancel", "long", "--json").out) == {"cancelled": 0, "stopping": 1}

    async def is_over() -> bool:
        return (await runs.get(client, "long")).is_over

    await wait_until(is_over, "the run is over")
    assert (await runs.get(client, "long")).cancelled == 1
