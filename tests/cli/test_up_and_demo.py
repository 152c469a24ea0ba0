"""``up`` and ``demo``: a broker and workers that live and die together, as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, SAMPLES, run_command
from tests.cli.started import Started, starting, wait_for
from twolane import embedded


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    with starting() as begin:
        yield begin


@pytest.fixture
def start_up(start: Callable[..., Started]) -> Callable[..., Started]:
    def begin(*options: str) -> Started:
        up = start("up", "--processes=2", *options)
        up.wait_said("ready at unix://")
        up.look()
        return up

    return begin


@pytest.fixture(autouse=True)
def _own_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWOLANE_DATABASE_URL", f"sqlite:///{tmp_path}/measurements.db")


def text(up: Started) -> str:
    return "".join(up.said)


def assert_works_and_ends(up: Started) -> None:
    ended = run_command("enqueue", "primes", "--below", "1000", "--chunks", "2", "--wait")
    assert ended.code == 0
    up.look()
    up.interrupt()
    assert up.end() == 0
    assert up.is_gone()


@pytest.mark.slow
def test_everything_in_a_day_of_up(
    start_up: Callable[..., Started], start: Callable[..., Started]
) -> None:
    up = start_up()
    assert len(up.family) >= 4, "a keeper, a server and two workers"
    target = start("target", "--port=0", "--latency=20ms")
    target.wait_said("listening on ")
    url = target.said[-1].split()[-1]

    primes = run_command("enqueue", "primes", "--below", "1_000_000", "--chunks", "8", "--wait")
    assert primes.code == 0
    assert "sieve: 78,498 primes below 1,000,000 — checked: π(1,000,000) = 78,498" in primes.out
    assert primes.out.splitlines()[2].split()[:4] == ["cpu", "count_primes", "8", "0"]

    fetch = run_command("enqueue", "fetch", "--url", url, "--count", "50", "--wait", "--json")
    (row,) = json.loads(fetch.out)["comparison"]
    assert (fetch.code, row["job"], row["jobs"], row["failed"]) == (0, "fetch", 50, 0)
    assert row["run"]["p50"] >= 0.02
    assert row["cpu_seconds"] < row["run_total"], "it waited"

    read = run_command("enqueue", "read", "--glob", "twolane/*.py", "--wait", "--run", "files")
    assert (read.code, read.err.splitlines()[0][:10]) == (0, "run files:")
    results = [
        json.loads(line) for line in run_command("runs", "collect", "files").out.splitlines()
    ]
    sizes = {Path(one["result"]["path"]).name: one["result"]["bytes"] for one in results}
    assert sizes["cli.py"] == (ROOT / "twolane" / "cli.py").stat().st_size

    query = run_command("enqueue", "query", "--rows", "1000", "--count", "5", "--wait")
    assert query.code == 0

    mixed = run_command(
        "enqueue", "mixed", "--url", url, "--fetches", "5", "--queries", "2", "--glob", "*.md",
        "--below", "100_000", "--chunks", "4", "--wait", "--json",
    )  # fmt: skip
    found = json.loads(mixed.out)
    assert mixed.code == 0
    assert {(row["lane"], row["job"]) for row in found["comparison"]} == {
        ("io", "fetch"), ("io", "query"), ("io", "read_file"), ("io", ""), ("cpu", "count_primes"),
    }  # fmt: skip
    assert found["primes"][0]["right"]

    status = json.loads(run_command("status", "--json").out)
    assert [(lane["lane"], lane["workers"]) for lane in status["lanes"]] == [("io", 1), ("cpu", 1)]
    assert status["lanes"][1]["slots"] == 2
    assert status["lanes"][1]["counters"]["done"] == 12

    second = run_command("up")
    assert second.code == 1
    assert second.err.startswith(f"Error: already running, pid {up.process.pid}; ")
    assert second.err.count("\n") == 1

    up.look()
    up.interrupt()
    assert up.end() == 0
    assert up.is_gone()
    assert "draining; a second Ctrl-C stops at once" in text(up)
    assert text(up).endswith("ended; the broker's data stays for the next time\n")
    assert embedded.find() is None


@pytest.mark.slow
def test_what_was_enqueued_survives_down_and_up(start_up: Callable[..., Started]) -> None:
    first = start_up()
    run_command(
        "enqueue", "primes", "--below", "1000", "--chunks", "2", "--wait", "--run", "before"
    )
    first.interrupt()
    assert first.end() == 0

    start_up()

    found = json.loads(run_command("runs", "show", "before", "--json").out)
    assert found["run"]["done"] == 2
    assert found["primes"][0]["right"]


@pytest.mark.slow
def test_killing_up_leaves_no_orphan_and_no_data_lost(start_up: Callable[..., Started]) -> None:
    up = start_up("--appendfsync=always", SAMPLES, "--jobs=twolane.jobs", "--grace=1")
    run_command("enqueue", "job", "wait_long", SAMPLES, "--run", "left")
    up.look()

    up.process.kill()

    wait_for(up.is_gone, "the end of all that it had started")
    start_up()
    assert json.loads(run_command("runs", "--json").out)[0]["name"] == "left"


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(start_up: Callable[..., Started]) -> None:
    up = start_up()
    beats = json.loads(run_command("status", "--json").out)["workers"]
    pids = {beat["lane"]: beat["pid"] for beat in beats}

    os.kill(pids["cpu"], signal.SIGKILL)

    up.wait_said("the cpu worker ended with status -9; starting another")
    assert_works_and_ends(up)


@pytest.mark.slow
def test_a_broker_that_dies_is_started_again_with_its_data(
    start_up: Callable[..., Started],
) -> None:
    up = start_up("--appendfsync=always")
    found = embedded.find_running(os.environ)
    assert found is not None
    run_command("enqueue", "primes", "--below", "1000", "--chunks", "2", "--wait", "--run", "kept")

    os.kill(found.pid, signal.SIGKILL)

    up.wait_said("the broker ended; starting it again with its data")
    wait_for(lambda: run_command("runs", "show", "kept").code == 0, "the run is there again")
    assert_works_and_ends(up)


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(start_up: Callable[..., Started]) -> None:
    up = start_up(SAMPLES, "--grace=10m")
    run_command("enqueue", "job", "wait_long", SAMPLES, "--run", "long")
    wait_for(
        lambda: json.loads(run_command("status", "--json").out)["lanes"][0]["running"], "it runs"
    )
    up.look()

    up.interrupt()
    up.wait_said("draining")
    up.interrupt()

    assert up.end() == 130
    assert "stopping at once; jobs that ran come back by their leases" in text(up)
    assert up.is_gone()


@pytest.mark.parametrize("options", [["--jobs=no.such.module"], ["--grace=-1"], ["--processes=0"]])
def test_bad_options_start_nothing(options: list[str]) -> None:
    code, out, err = run_command("up", *options)

    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert embedded.find() is None


@pytest.mark.slow
def test_the_demo_ends_well_and_saves_what_it_found(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"

    code, out, err = run_command(
        "demo", "--fetches=20", "--queries=5", "--processes=2", f"--output={file}"
    )

    assert code == 0
    assert re.match(r"run demo-\w+: (\d+) of \1 jobs\n", out)
    assert "5,761,455 primes below 100,000,000 — checked" in out
    assert "trial: 155,611 primes below 2,097,152 — checked" in out
    assert f"results saved in {file}" in err
    assert f"report saved in {tmp_path / 'demo.html'}" in err
    assert "Where this was measured" in (tmp_path / "demo.html").read_text()
    for lane in ("io", "cpu"):  # the plots, and no colour where nobody looks
        assert f"{lane} lane, jobs/s over seconds" in out
    assert "\x1b" not in out
    found = json.loads(file.read_text())
    assert set(found) == {"run", "comparison", "primes", "failures", "slots", "seen", "jobs"}
    assert found["run"]["done"] == found["run"]["total"] == len(found["jobs"])
    assert found["failures"] == []
    assert found["slots"] == {"io": 100, "cpu": 2}
    assert [check["right"] for check in found["primes"]] == [True, True]
    assert {row["job"] for row in found["comparison"] if row["job"]} == {
        "fetch", "query", "read_file", "count_primes",
    }  # fmt: skip
    assert all(sentence in out for sentence in found["seen"])
    by_job = {(row["lane"], row["job"]): row for row in found["comparison"]}
    fetch = by_job["io", "fetch"]
    assert (fetch["jobs"], fetch["failed"]) == (20, 0)
    assert fetch["run"]["p50"] >= 0.05, "the web service takes 50 ms"
    for row in found["comparison"]:
        assert {"wall", "throughput", "wait", "run", "cpu_seconds", "speedup"} <= set(row)
    for one in found["jobs"]:
        assert one["status"] == "done"
        assert {"id", "job", "args", "result", "run_seconds", "cpu_seconds", "worker"} <= set(one)


@pytest.mark.slow
def test_the_demo_prints_json_alone_where_asked(tmp_path: Path) -> None:
    code, out, _ = run_command(
        "demo", "--fetches=1", "--queries=1", "--json", f"--output={tmp_path / 'd.json'}"
    )

    assert code == 0
    assert json.loads(out)["run"]["kind"] == "demo"


@pytest.mark.slow
def test_ctrl_c_in_the_demo_leaves_nothing(start: Callable[..., Started], tmp_path: Path) -> None:
    demo = start("demo", "--fetches=10000", f"--output={tmp_path / 'd.json'}")
    demo.wait_said("starting a broker")
    wait_for(lambda: len(demo.look()) >= 6, "broker, web service and workers with their processes")

    demo.interrupt()

    assert demo.end() == 130
    wait_for(demo.is_gone, "the end of all that it had started")
    assert "Traceback" not in "".join(demo.said)
    assert demo.said[-1] == "interrupted\n"
    assert not (tmp_path / "d.json").exists()


def test_a_demo_whose_results_cannot_be_saved_says_so_before_it_begins(tmp_path: Path) -> None:
    code, out, err = run_command("demo", f"--output={tmp_path / 'no' / 'd.json'}")

    assert (code, out) == (1, "")
    assert err.startswith(f"Error: cannot save the results in {tmp_path / 'no' / 'd.json'}: ")
    assert err.count("\n") == 1
