"""Runs that are over: shown, compared, and taken for the run times of a size."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from redis.asyncio import Redis

from producer.submit import Caller, submit
from tests.cli.conftest import Run
from tests.producer.making import claim, failed, settle, succeeded
from twolane.registry import Registry


async def made_run(client: Redis, name: str, jobs: int = 30) -> None:
    """A run that has settled."""
    caller = Caller(Registry.load(["tests.cli.sample_jobs"]))
    await submit(client, [caller.call("square", {"n": 3})] * jobs, "job", name)
    await settle(client, await claim(client, "cpu"), succeeded(9), lane="cpu")


async def test_two_runs_are_compared_and_conditions_decide_the_exit_code(
    twolane: Run, client: Redis
) -> None:
    await made_run(client, "before")
    await made_run(client, "after")

    shown = twolane("runs", "compare", "before", "after")
    assert (shown.code, shown.err) == (0, "")
    assert "throughput" in shown.out
    assert "run.p95" in shown.out

    failing = twolane("runs", "compare", "before", "after", "--fail-if", "throughput > 0")
    assert failing.code == 4
    assert "throughput > 0: the ratio is " in failing.err
    assert "FAILS" in failing.err

    passing = twolane(
        "runs", "--json", "compare", "before", "after", "--fail-if", "throughput < 0.000001"
    )
    assert passing.code == 0
    found = json.loads(passing.out)
    assert found["conditions"][0]["fails"] is False
    assert {one["measure"] for one in found["lines"]} >= {"throughput", "wait.p95", "cpu"}

    rows = csv.DictReader(io.StringIO(twolane("runs", "compare", "before", "after", "--csv").out))
    assert next(iter(rows))["measure"] == "throughput"


async def test_a_comparison_says_how_many_jobs_of_each_run_failed(
    twolane: Run, client: Redis
) -> None:
    await made_run(client, "before")
    await made_run(client, "after")
    await broken_run(client, "broken")
    caller = Caller(Registry.load(["tests.cli.sample_jobs"]))
    await submit(client, [caller.call("square", {"n": 3})] * 4, "job", "mixed")
    claimed = await claim(client, "cpu")
    await settle(client, claimed[:3], succeeded(9), lane="cpu")
    await settle(client, claimed[3:], failed(), lane="cpu")
    said = "mixed: 1 failed of 4 jobs; the figures are of the 3 that succeeded"

    shown = twolane("runs", "compare", "before", "mixed")
    as_json = twolane("runs", "compare", "before", "mixed", "--json")
    as_csv = twolane("runs", "compare", "before", "mixed", "--csv")
    broken = twolane("runs", "compare", "before", "broken")

    assert (shown.code, shown.err) == (0, "")
    assert said in shown.out
    assert json.loads(as_json.out)["seen"] == [said]
    assert json.loads(as_json.out)["sides"][1]["failed"] == 1
    assert as_csv.err == f"{said}\n"
    assert (broken.code, broken.out) == (4, "")
    assert broken.err.startswith("Error: run 'broken' has no job that succeeded")


async def broken_run(client: Redis, name: str) -> None:
    caller = Caller(Registry.load(["tests.cli.sample_jobs"]))
    await submit(client, [caller.call("square", {"n": 3})] * 2, "job", name)
    await settle(client, await claim(client, "cpu"), failed(), lane="cpu")


async def test_runs_that_are_not_there_are_named(twolane: Run, client: Redis) -> None:
    await made_run(client, "before")

    ended = twolane("runs", "compare", "before", "after")

    assert ended.code == 2
    assert "no run is named 'after'" in ended.err


async def test_a_run_is_shown_as_csv_and_as_a_report(
    twolane: Run, client: Redis, tmp_path: Path
) -> None:
    await made_run(client, "mine")

    ended = twolane("runs", "show", "mine", "--csv", "--report", str(tmp_path / "r.html"))

    assert ended.code == 0
    (row,) = csv.DictReader(io.StringIO(ended.out))
    assert (row["job"], row["jobs"]) == ("square", "30")
    assert ended.err == f"report saved in {tmp_path / 'r.html'}\n"
    assert "30 of 30 jobs" in (tmp_path / "r.html").read_text()


async def test_a_recorded_run_gives_the_run_times_for_a_size(twolane: Run, client: Redis) -> None:
    await made_run(client, "mine")

    # Settled by hand, its jobs took no time at all, of which no slot can be full.
    ended = twolane("size", "--rate", "5", "--slo", "1s", "--lane", "io", "--run", "mine")

    assert ended.code == 2
    assert "run 'mine' has 0 io jobs that succeeded; two are the least" in ended.err
