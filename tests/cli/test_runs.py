"""``runs``, ``runs show``, ``runs collect``: for people, as JSON, and as tables for other tools."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from producer.cli import report
from producer.cli.runs import FIELDS, as_row, write
from tests.cli.conftest import SAMPLES, Run
from tests.producer.making import claim, failed, made, settle, succeeded
from twolane import keys, runs
from twolane.commandline import to_json
from twolane.errors import RemoteError, WaitTimeout
from twolane.store import NewJob, Store

StartWorker = Callable[..., Any]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]


async def run_of(twolane: Run, client: Redis, name: str, *values: str, job: str = "echo") -> None:
    """A run whose jobs were settled by hand: the n-th returned the n-th value."""
    for value in values:
        assert twolane("enqueue", "job", job, SAMPLES, f"--run={name}").code == 0
        await settle(client, await claim(client), succeeded(value))


def test_no_runs_are_said_to_be_none(twolane: Run) -> None:
    assert twolane("runs") == (0, "", "no runs yet; make one: twolane enqueue primes --wait\n")
    assert json.loads(twolane("runs", "--json").out) == []


def test_runs_are_listed_the_newest_first(twolane: Run) -> None:
    twolane("enqueue", "query", "--run", "first", "--count", "2")
    twolane("enqueue", "primes", "--run", "second", "--chunks", "3")

    listed = json.loads(twolane("runs", "--json").out)
    table = [line.split() for line in twolane("runs").out.splitlines()]

    assert [(one["name"], one["kind"], one["total"]) for one in listed] == [
        ("second", "primes", 3),
        ("first", "query", 2),
    ]
    assert set(listed[0]) == {
        "name", "kind", "created_ms", "total", "done", "failed", "cancelled", "sealed",
    }  # fmt: skip
    assert [row[0] for row in table] == ["run", "second", "first"]
    assert [row[-1] for row in table[1:]] == ["3", "2"]
    assert len(json.loads(twolane("runs", "--limit", "1", "--json").out)) == 1


@pytest.mark.parametrize(
    "command", [["show", "nope"], ["show", "nope", "--wait"], ["collect", "nope"]]
)
def test_an_unknown_run_is_a_usage_error(twolane: Run, command: list[str]) -> None:
    code, out, err = twolane("runs", *command)

    assert (code, out) == (2, "")
    assert err.startswith("Error: no run is named 'nope'; `twolane runs` lists them")
    assert err.count("\n") == 1


async def test_a_run_that_goes_on_is_shown_as_far_as_it_is(twolane: Run, client: Redis) -> None:
    twolane("enqueue", "query", "--run", "half", "--count", "2")
    await settle(client, await claim(client, count=1), succeeded({"sum": 1}))

    code, out, err = twolane("runs", "show", "half")

    assert code == 0
    assert out.startswith("run half: 1 of 2 jobs\n")
    assert err == "1 job to go; wait for the end with --wait\n"


async def test_a_run_is_shown_as_json_wherever_json_is_asked_for(
    twolane: Run, client: Redis
) -> None:
    await run_of(twolane, client, "done", "x")

    after = json.loads(twolane("runs", "show", "done", "--json").out)
    before = json.loads(twolane("runs", "--json", "show", "done").out)

    assert after == before
    assert after["run"]["done"] == 1
    (row,) = after["comparison"]
    assert set(row) == {
        "lane", "job", "jobs", "failed", "cancelled", "wall", "throughput", "wait", "run",
        "run_total", "cpu_seconds", "concurrency", "speedup", "cores", "longest_hold",
        "peak_memory_bytes", "retried",
    }  # fmt: skip
    assert set(row["wait"]) == {"p50", "p95", "p99"}


async def test_a_failed_run_is_exit_code_4_and_names_the_kinds_of_failure(
    twolane: Run, client: Redis
) -> None:
    twolane("enqueue", "query", "--run", "bad", "--count", "3")
    await settle(client, await claim(client, count=2), failed("no table"))
    await settle(client, await claim(client), succeeded())

    code, out, _ = twolane("runs", "show", "bad", "--wait")
    found = json.loads(twolane("runs", "show", "bad", "--json").out)

    assert code == 4
    assert "2 × ValueError, for example: bad-0000000: no table" in out
    assert found["failures"] == [
        {"error": "ValueError", "jobs": 2, "example": "bad-0000000: no table"}
    ]


def test_cancelled_jobs_are_no_dead_letters_and_not_said_to_be(twolane: Run) -> None:
    twolane("enqueue", "query", "--run", "gone")
    twolane("cancel", "gone")

    code, out, _ = twolane("runs", "show", "gone")

    assert code == 4
    assert "1 × cancelled" in out
    assert "dead list" not in out


def test_the_time_for_waiting_is_kept(twolane: Run) -> None:
    twolane("enqueue", "query", "--run", "slow")

    code, out, err = twolane("runs", "show", "slow", "--wait", "--timeout", "100ms")

    assert (code, out) == (5, "")
    assert "0 of 1 job done" in err
    assert "Traceback" not in err


# Collecting


async def test_who_waits_for_a_run_is_told_that_its_producer_may_have_died(
    client: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed half-way it seals nothing; its run was waited for without a word, for good."""
    monkeypatch.setattr(report, "OPEN_SECONDS", 0.2)
    await runs.create(client, "test", "half")
    await Store(client).enqueue_many(keys.IO_QUEUE, [NewJob("half-0000000", b"")], "half")

    with pytest.raises(WaitTimeout):
        await report.wait_with_progress(client, "half", {}, timeout=3)

    said = capsys.readouterr().err
    assert said.count("run half is waited for although no job was added to its 1 for 0.2 s") == 1
    assert "never will if its producer died; `twolane runs show half`" in said


async def test_results_are_collected_one_a_line(twolane: Run, client: Redis) -> None:
    await run_of(twolane, client, "texts", "one")

    code, out, err = twolane("runs", "collect", "texts")

    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    one = json.loads(line)
    assert set(one) == set(FIELDS)
    assert (one["job"], one["status"], one["result"]) == ("echo", "done", "one")


async def test_results_are_saved_in_a_file(twolane: Run, client: Redis, tmp_path: Path) -> None:
    await run_of(twolane, client, "saved", "ä\nö")

    code, out, err = twolane(
        "runs", "collect", "saved", "--format", "csv", "--output", str(tmp_path / "r.csv")
    )

    assert (code, out) == (0, "")
    assert err == f"1 result in {tmp_path / 'r.csv'}\n"
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["result"] == "ä\nö"


async def test_a_file_that_cannot_be_written_is_one_line(
    twolane: Run, client: Redis, tmp_path: Path
) -> None:
    await run_of(twolane, client, "lost", "x")

    code, out, err = twolane("runs", "collect", "lost", "--output", str(tmp_path / "no" / "r"))

    assert (code, out) == (1, "")
    assert err == f"Error: cannot write {tmp_path / 'no' / 'r'}: No such file or directory\n"


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_a_spreadsheet_finds_no_formula_in_a_csv(text: str) -> None:
    nasty = made(result=text, function=text, worker=text, id=text, kwargs={"x": text}, args=[text])
    broken = made(success=False, result=RemoteError(text, text, text))
    out = io.StringIO(newline="")

    write([nasty, broken], "csv", out)

    rows = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert rows[0] == list(FIELDS)
    assert rows[1][FIELDS.index("result")] == "'" + text
    for cell in (cell for row in rows[1:] for cell in row):
        assert cell[:1] not in {one[0] for one in FORMULAS}


def test_numbers_in_a_csv_stay_numbers() -> None:
    out = io.StringIO(newline="")

    write([made(result=-5, run_seconds=0.25)], "csv", out)

    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert (row["result"], row["run_seconds"], row["error"]) == ("-5", "0.25", "")


def test_a_csv_on_a_terminal_cannot_act_on_it() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    on_terminal, in_file = Terminal(), io.StringIO()
    for stream in (on_terminal, in_file):
        write([made(result="\x1b[31m\x9b")], "csv", stream)

    assert not {"\x1b", "\x9b"} & set(on_terminal.getvalue())
    assert "\x1b[31m\x9b" in in_file.getvalue()


async def test_values_that_json_has_no_form_for_come_as_text(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")
    twolane("enqueue", "job", "odd_values", SAMPLES, "--wait", "--run", "odd")

    code, out, err = twolane("runs", "collect", "odd")

    assert (code, err) == (0, "")
    assert json.loads(out, parse_constant=pytest.fail)["result"] == {
        "nan": "NaN", "inf": "Infinity", "bytes": "00ff", "6b6579": 1, "2": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        '\x1b[31m \x7f \x9b \u202e \u2028 \U000e0001 ä 😀 " \\ \n',
        {"\x1b": ["\x9b", {"\x7f": "\r"}]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_says_control_characters_in_escapes(value: Any, indent: int | None) -> None:
    text = to_json(value, indent)

    assert json.loads(text) == value
    assert all(c.isprintable() or c == "\n" for c in text)
    assert indent is not None or "\n" not in text


def test_a_value_nested_beyond_reason_is_cut_and_not_an_error() -> None:
    value: Any = "deep"
    for _ in range(900):
        value = [value]

    assert "nested too deeply" in to_json(value)


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        ([], {"x": 1}, {"x": 1}),
        ([1], {"x": 2}, {"": [1], "x": 2}),
        ([1], None, {"": [1]}),
        (5, 6, {"": 5}),
        (None, [1], [1]),
    ],
)
def test_whatever_another_client_sent_as_arguments_is_shown(
    args: Any, kwargs: Any, shown: Any
) -> None:
    assert as_row(made(args=args, kwargs=kwargs))["args"] == shown


async def test_runs_are_listed_by_a_command_of_that_name_too(twolane: Run) -> None:
    """``dead list`` is there, and ``runs list`` was no command."""
    twolane("enqueue", "query", "--run", "first")
    twolane("enqueue", "query", "--run", "second")

    listed = twolane("runs", "list", "--json")

    assert listed == twolane("runs", "--json")
    assert [one["name"] for one in json.loads(listed.out)] == ["second", "first"]
    assert twolane("runs", "--json", "list") == listed
    assert "first" not in twolane("runs", "list", "--limit", "1").out
