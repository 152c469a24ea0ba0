"""``compare``, ``scale``, ``size`` and ``load`` as a person has them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.exceptions import ConnectionError as BrokerConnectionError

import producer.crews
from producer.cli.output import Progress
from producer.cli.scale import Counts, _Outcome, scale
from producer.cli.workload import Source, Wanted, _gathered, from_option, from_words
from producer.sweep import Measure, Point
from tests.cli.conftest import ROOT, SAMPLES, Run, run_command
from tests.cli.started import Started, starting, wait_for
from tests.producer.laboratory import MACHINE, point
from twolane.errors import BadArguments, BrokerUnreachable, UnknownJob, UsageError, WaitTimeout

SHIPPED = ("twolane.jobs",)


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["--io", "fetch", "url=http://x/?a=b", "--rounds", "2"],
         ["--io", "fetch 'url=http://x/?a=b'", "--rounds", "2"]),
        (["--io=fetch", "url=x"], ["--io", "fetch url=x"]),
        (["--cpu", "a.b", "n=1", "text=two words", "x"],
         ["--cpu", "a.b n=1 'text=two words'", "x"]),
        (["--job", "fetch url=x"], ["--job", "fetch url=x"]),
        (["my_job", "n=1", "--rounds=2"], ["my_job", "n=1", "--rounds=2"]),
        (["--io"], ["--io"]),
    ],
)  # fmt: skip
def test_a_named_job_takes_the_words_after_it_for_its_arguments(
    words: list[str], joined: list[str]
) -> None:
    assert _gathered(words) == joined


def test_several_jobs_may_be_named_one_after_the_other() -> None:
    assert from_words(["a", "n=1", "m=x=y", "b"]) == [
        Wanted("a", {"n": "1", "m": "x=y"}), Wanted("b", {}),
    ]  # fmt: skip
    assert from_option("a 'text=two words'", "io") == Wanted("a", {"text": "two words"}, "io")


@pytest.mark.parametrize("text", ["a b", "", "n=1", "a 'n=1"])
def test_what_is_not_one_job_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        from_option(text, None)


def test_a_job_is_checked_before_anything_is_started() -> None:
    source = Source(SHIPPED)

    with pytest.raises(BadArguments):
        source.call(Wanted("count_primes", {"low": "x", "high": "3"}))
    with pytest.raises(UsageError, match="belongs to the cpu lane, not to the io lane"):
        source.call(Wanted("count_primes", {"low": "0", "high": "3"}, "io"))
    with pytest.raises(UnknownJob, match=r"no module 'no\.such'"):
        source.call(Wanted("no.such.job", {}))


def test_a_job_may_be_named_with_its_module() -> None:
    source = Source(SHIPPED)

    call = source.call(Wanted("tests.cli.sample_jobs.square", {"n": "3"}))

    assert call.job.name == "square"
    assert source.modules == (*SHIPPED, "tests.cli.sample_jobs")


@pytest.mark.parametrize(
    ("text", "counts"), [("1,2,4", (1, 2, 4)), ("4,1-3", (1, 2, 3, 4)), ("2", (2,))]
)
def test_worker_counts(text: str, counts: tuple[int, ...]) -> None:
    assert Counts().convert(text, None, None) == counts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "no_such_job"], "unknown job 'no_such_job'"),
        (["compare", "--io", "count_primes", "low=0", "high=9"], "belongs to the cpu lane"),
        (["compare", "--json", "--csv"], "give --json or --csv, not both"),
        (["scale"], "say which lane, or which job"),
        (["scale", "--lane", "cpu", "--workers", "0"], "worker counts are from 1 to 1024"),
        (["scale", "--lane", "cpu", "--workers", "1-99999999999999"], "counts are from 1 to 1024"),
        (["load", "--rate", "nan", "--lane", "io", "--workers", "1"], "'nan' is not a number"),
        (["size", "--rate", "1", "--slo", "1s", "--lane", "io", "--mean-run", "1s", "--quantile",
          "nan"], "'nan' is not a number"),
        (["scale", "--lane", "cpu", "--workers", "two"], "'two' are no worker counts"),
        (["scale", "--lane", "cpu", "--compose", "--manual"], "give one of --compose, --manual"),
        (["scale", "--lane", "cpu", "--broker", "redis://x"], "--broker goes with --manual"),
        (["scale", "--lane", "cpu", "--project-name", "x"], "--project-name goes with --compose"),
        (["scale", "j", "--as-is", "--processes", "2"], "--processes is for workers of our own"),
        (["load", "--rate", "5", "--lane", "io", "--workers", "1", "--broker", "redis://x"],
         "--broker is for workers that are there"),
        (["load", "--rate", "5", "fetch", "url=http://x", "--p99", "1s"], "--workers 1"),
        (["size", "--rate", "5", "--slo", "1s", "--lane", "io", "--scv", "0"],
         "--scv goes with --mean-run"),
        (["scale", "--manual", "--lane", "io"], "name the job that those workers know"),
        (["scale", "--compose", "fetch", "url=http://x"], "give --lane"),
        (["scale", "fetch", "url=http://x", "fetch", "url=http://y"], "one job at a time"),
        (["load", "--rate", "5"], "say which lane, or which job"),
        (["load", "--rate", "5", "--lane", "io"], "or start some: --workers 1"),
        (["load", "--rate", "5", "--lane", "io", "--for", "2s", "--warm-up", "2s"], "--warm-up"),
        (["size", "--rate", "5", "--slo", "1s"], "say which lane, or which job"),
        (["size", "--rate", "5", "--slo", "1s", "--lane", "io", "--mean-run", "1s", "--run", "x"],
         "give --mean-run or --run, not both"),
        (["runs", "compare", "a", "b", "--fail-if", "speed < 1"], "there is no measure 'speed'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_exit_code_2(words: list[str], message: str) -> None:
    code, out, err = run_command(*words)

    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["compare"], ["scale", "--lane", "cpu"], ["load", "--rate", "1", "--lane", "io"],
        ["demo"], ["runs", "show", "x"],
    ],
    ids=str,
)  # fmt: skip
def test_a_report_without_a_place_is_told_before_the_work(words: list[str], tmp_path: Path) -> None:
    code, out, err = run_command(*words, "--report", str(tmp_path / "no" / "r.html"), cwd=tmp_path)

    assert (code, out) == (1, "")
    assert err.startswith("Error: cannot save the report in ")
    assert err.count("\n") == 1


def test_a_size_from_a_given_run_time_is_littles_law() -> None:
    words = ["size", "--rate", "200", "--slo", "2s", "--lane", "io", "--mean-run", "50ms"]

    code, out, err = run_command(*words, "--slots", "10", "--json")

    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["answer"]["workers"] == 2
    assert found["answer"]["utilisation"] == pytest.approx(0.5)
    table = run_command(*words, "--slots", "10").out
    assert all(sentence in table for sentence in found["seen"])
    rows = list(csv.DictReader(io.StringIO(run_command(*words, "--slots", "10", "--csv").out)))
    assert rows[0]["workers"] == "2"


@pytest.mark.slow
def test_a_size_is_measured_where_nothing_is_given(twolane: Run) -> None:
    code, out, _ = run_command(
        "size", "--rate", "50", "--slo", "1s", "--job", "echo", "value=1", SAMPLES,
        "--measure", "1s", "--json",
    )  # fmt: skip

    assert code == 0
    found = json.loads(out)
    assert found["service"]["jobs"] > 20
    assert found["answer"]["workers"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--json", "--csv", "--seed=1"])
def test_ctrl_c_in_a_comparison_shows_what_was_measured(tmp_path: Path, form: str) -> None:
    """It said "interrupted" alone, after however many rounds."""
    report = tmp_path / "compare.html"
    with starting(apart=True) as begin:
        made = begin(
            "compare", "square", "n=3", SAMPLES, "--count=2", "--rounds=1000", "--processes=1",
            f"--report={report}", form,
        )  # fmt: skip
        made.wait_said("measuring 2 × square")
        # Each measurement has processes of its own, at most four: of nine, some have told.
        wait_for_children(made, 9)
        made.look()
        made.interrupt()

        code = made.end()

        out, err = "".join(made.printed), "".join(made.said)
        assert code == 130, err
        assert err.endswith("interrupted\n")
        if form == "--json":
            assert json.loads(out)["complete"] is False
            assert json.loads(out)["seen"][0].startswith("Incomplete: cut off after ")
        elif form == "--csv":
            assert {row["job"] for row in csv.DictReader(io.StringIO(out))} == {"square"}
            assert "Incomplete: cut off after " in err
        else:
            assert "Incomplete: cut off after " in out
            assert "way " in out
        assert "Incomplete: cut off after" in report.read_text()
        wait_for(made.is_gone, "the end of what it had started")


def wait_for_children(made: Started, count: int) -> None:
    """Wait until a command has started so many processes, one after the other or at once."""
    seen: set[int] = set()

    def there_were() -> bool:
        seen.update(child.pid for child in psutil.Process(made.process.pid).children())
        return len(seen) >= count

    wait_for(there_were, f"{count} children", seconds=60)


@pytest.mark.slow
def test_a_comparison_for_real(tmp_path: Path) -> None:
    code, out, err = run_command(
        "compare", "echo", "value=1", "square", "n=3", SAMPLES, "--rounds", "2", "--count", "3",
        "--processes", "2", "--concurrency", "3", "--json", "--report", str(tmp_path / "c.html"),
    )  # fmt: skip

    assert code == 0, err
    found = json.loads(out)
    assert [one["job"] for one in found["compared"]] == ["echo", "square"]
    for one in found["compared"]:
        ways = {way["model"]: way for way in one["ways"]}
        there = {name for name, way in ways.items() if not way["missing"]}
        assert there >= {"one at a time", "threads", "asyncio", "processes", "twolane workers"}
        assert all(len(ways[name]["walls"]) == 2 for name in there)
        assert all(ways[name]["failed"] == 0 for name in there)
    assert found["environment"]["usable_cores"] >= 1
    page = (tmp_path / "c.html").read_text()
    assert "echo" in page


@pytest.mark.slow
def test_a_sweep_for_real(tmp_path: Path) -> None:
    code, out, err = run_command(
        "scale", "--lane", "cpu", "--workers", "1,2,3", "--rounds", "2", "--window", "500ms",
        "--warm-up", "0", "--json", "--report", str(tmp_path / "s.html"),
    )  # fmt: skip

    assert code == 0, err
    found = json.loads(out)
    counts = [one["workers"] for one in found["points"]]
    assert sorted(counts) == [1, 1, 2, 2, 3, 3]
    assert sorted(counts[:3]) == [1, 2, 3], "one round after the other"
    assert 1 <= found["fit"]["recommended"]["count"] <= 3
    assert "3 rounds that intervals need" in err
    assert "recommended" in (tmp_path / "s.html").read_text()


@pytest.mark.parametrize("cut", [asyncio.CancelledError(), WaitTimeout("no job ended")], ids=repr)
async def test_a_sweep_that_is_cut_off_shows_what_it_measured(
    cut: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = _Outcome(as_json=False, as_csv=False, report=None)
    made: list[int] = []

    async def measure(count: int, round_: int) -> Point:
        if len(made) == 2:
            raise cut
        made.append(count)
        return point(count, 20.0 * count, round_)

    points = await outcome.swept(measure, [1, 2, 3], 2, seed=1)
    with pytest.raises(type(cut)):
        outcome.finish(points, "count_primes", "cpu", MACHINE)

    assert [one.workers for one in points] == made
    shown = capsys.readouterr().out
    assert "cut off after 2 of 6" in shown
    assert "jobs/s: median of the rounds" in shown


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 4)])
def test_a_sweep_of_jobs_that_failed_is_exit_code_4(failed: int, code: int) -> None:
    outcome = _Outcome(as_json=False, as_csv=True, report=None)
    points = [point(1, 20.0), point(2, 40.0, failed=failed)]

    assert outcome.finish(points, "count_primes", "cpu", MACHINE) == code


def test_a_private_broker_that_is_lost_in_mid_sweep_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was a traceback where something had been measured before."""

    class Crew:
        def __init__(self, *_: object) -> None: ...

        def measure(self, *_: object) -> Measure:
            return self._of

        async def _of(self, count: int, round_: int) -> Point:
            if round_:
                raise BrokerConnectionError("gone")
            return point(count, 20.0, round_)

    monkeypatch.setattr(producer.crews, "Local", Crew)

    with pytest.raises(BrokerUnreachable, match="the private Valkey of this command was lost"):
        scale.main(["--lane", "cpu", "--workers", "1", "--rounds", "2"], standalone_mode=False)

    assert "cut off after 1 of 2" in capsys.readouterr().out


async def test_a_sweep_that_is_cut_off_at_once_shows_nothing() -> None:
    async def measure(count: int, round_: int) -> Point:
        raise WaitTimeout("no job ended")

    with pytest.raises(WaitTimeout):
        await _Outcome(as_json=False, as_csv=False, report=None).swept(measure, [1], 1, None)


def test_a_log_gets_a_line_on_a_measurement_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where standard error was no terminal, a load of a minute was a minute of silence."""
    now = 0.0
    progress = Progress(lambda: now)

    for second in range(13):
        now = float(second)
        progress(second, 60, "seconds")
    progress(1, 1, "")

    assert capsys.readouterr().err == "5/60 seconds\n10/60 seconds\n"


@pytest.mark.slow
def test_a_load_for_real(tmp_path: Path) -> None:
    code, out, err = run_command(
        "load", "--rate", "50", "--for", "2s", "--lane", "io", "--latency", "5ms", "--workers", "1",
        "--arrivals", "constant", "--warm-up", "500ms", "--report", str(tmp_path / "l.html"),
    )  # fmt: skip

    assert code == 0, err
    assert "fetch (io lane), 1 io worker (concurrency 100 each)" in out
    assert "latency (intended send to end)" in out
    assert "50.0 jobs/s sent" in out
    assert "predicted" in (tmp_path / "l.html").read_text()


@pytest.mark.slow
async def test_the_workers_that_there_are_are_measured_as_they_are(
    twolane: Run, start_worker: Callable[..., Any]
) -> None:
    await start_worker("cpu", "--processes=1")

    ended = twolane(
        "scale", "square", "n=3", "--as-is", SAMPLES, "--window", "500ms", "--warm-up", "0",
        "--json",
    )  # fmt: skip

    assert ended.code == 0, ended.err
    (point,) = json.loads(ended.out)["points"]
    assert (point["workers"], point["slots"], point["failed"]) == (1, 1, 0)
    loaded = twolane("load", "square", "n=3", SAMPLES, "--rate", "40", "--for", "1s",
                     "--warm-up", "0", "--csv")  # fmt: skip
    assert loaded.code == 0, loaded.err
    (second,) = csv.DictReader(io.StringIO(loaded.out))
    assert int(second["sent"]) > 10


def test_the_script_of_the_documents_names_its_blocks(tmp_path: Path) -> None:
    script = str(ROOT / "scripts/laboratory")

    done = subprocess.run(
        [script, str(tmp_path), "nope"], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no block 'nope'" in done.stderr
    assert "Blocks: compare one-core scale-cpu" in done.stderr
