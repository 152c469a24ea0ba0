"""The benchmark's arithmetic, its tables and its page; nothing is timed here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules; `scripts` is no package of the project."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from benchmarks import (
            board,
            cli,
            contestants,
            docs,
            jobs,
            launch,
            measure,
            plan,
            report,
            summary,
            tables,
            targets,
            workloads,
        )

        yield SimpleNamespace(
            board=board,
            cli=cli,
            contestants=contestants,
            docs=docs,
            jobs=jobs,
            launch=launch,
            measure=measure,
            plan=plan,
            report=report,
            summary=summary,
            tables=tables,
            targets=targets,
            workloads=workloads,
        )
    finally:
        sys.path.remove(str(SCRIPTS))


def sample(
    bench: SimpleNamespace, workload: str, contestant: str, round_: int, **values: float
) -> Any:
    return bench.report.Sample(
        workload, contestant, round_, values, jobs=1000, completed=1000, seconds=1.0
    )


def report_of(bench: SimpleNamespace, *samples: Any, rounds: int = 3) -> Any:
    return bench.report.Report(
        profile="full",
        commit="abc",
        began="2026-01-01 00:00 UTC",
        command="scripts/bench full",
        rounds=rounds,
        machine=bench.report.Machine("a processor", 4, 16.0, "Linux 6", "3.11.7", "9.1.2", 0.1),
        loops_per_ms=10_000,
        versions={"twolane": {"twolane": "0.1.0"}, "saq": {"saq": "0.26.4"}},
        setups=[bench.report.Setup("noop-32", "twolane", "as it is")],
        samples=list(samples),
    )


def rates(bench: SimpleNamespace, workload: str, contestant: str, *values: float) -> list[Any]:
    return [
        sample(bench, workload, contestant, number, rate=value)
        for number, value in enumerate(values, start=1)
    ]


# -- arithmetic ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([1.0], 50, 1.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 1001)], 99, 990.0),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(
    bench: SimpleNamespace, values: list[float], percent: float, expected: float
) -> None:
    assert bench.summary.percentile(values, percent) == expected


def test_a_spread_is_of_all_rounds_that_did_not_fail(bench: SimpleNamespace) -> None:
    failed = bench.report.Sample("noop-32", "saq", 4, error="it ended")
    report = report_of(bench, *rates(bench, "noop-32", "saq", 100, 300, 120), failed)

    assert bench.summary.spread(report, "noop-32", "saq", "rate") == (120, 100, 300, 3)
    assert bench.summary.spread(report, "noop-32", "rq", "rate") is None


def test_a_ratio_above_one_says_that_we_are_better_whatever_is_measured(
    bench: SimpleNamespace,
) -> None:
    rate, *_ = bench.workloads.MEASURES["rate"]
    p50, *_ = bench.workloads.MEASURES["latency"]

    assert bench.summary.behind(20_000, 1_000, rate) == 20
    assert bench.summary.behind(2.0, 250.0, p50) == 125
    assert bench.summary.behind(20_000, 0, rate) == float("inf")


def test_rows_come_best_first_and_failures_last(bench: SimpleNamespace) -> None:
    report = report_of(
        bench,
        bench.report.Sample("noop-32", "rq", 1, error="it ended"),
        *rates(bench, "noop-32", "saq", 1_000),
        *rates(bench, "noop-32", "twolane", 20_000),
        *rates(bench, "noop-32", "huey", 4_000),
    )

    rows = bench.summary.rows(report, bench.workloads.ALL["noop-32"])

    assert [row.contestant for row in rows] == ["twolane", "huey", "saq", "rq"]
    assert [row.behind for row in rows] == [None, 5.0, 20.0, None]


def test_the_fastest_pickup_comes_first(bench: SimpleNamespace) -> None:
    report = report_of(
        bench,
        sample(bench, "latency", "arq", 1, p50=250.0, p99=500.0),
        sample(bench, "latency", "twolane", 1, p50=1.0, p99=4.0),
    )

    rows = bench.summary.rows(report, bench.workloads.ALL["latency"])

    assert [(row.contestant, row.behind) for row in rows] == [("twolane", None), ("arq", 250.0)]


def test_a_slower_contestant_gets_fewer_jobs_and_every_slot_gets_some(
    bench: SimpleNamespace,
) -> None:
    full, quick = bench.workloads.FULL, bench.workloads.QUICK
    noop, wide = bench.workloads.ALL["noop-32"], bench.workloads.ALL["noop-500"]
    arq, ours = bench.contestants.ALL["arq"], bench.contestants.ALL["twolane"]

    assert bench.workloads.jobs_of(noop, arq, full) < bench.workloads.jobs_of(noop, ours, full)
    assert bench.workloads.jobs_of(wide, arq, quick) == 2 * wide.slots
    assert bench.workloads.jobs_of(bench.workloads.ALL["enqueue"], arq, quick) == 20_000
    assert bench.workloads.jobs_of(bench.workloads.ALL["fleet-10"], arq, quick) == 600


# -- targets ---------------------------------------------------------------------------------------


def reached(bench: SimpleNamespace, report: Any) -> dict[str, tuple[str, str]]:
    return {line[0]: (line[2], line[3]) for line in bench.tables.targets_grid(report).lines}


def test_targets_are_judged_by_medians_of_one_run(bench: SimpleNamespace) -> None:
    report = report_of(
        bench,
        *rates(bench, "noop-32", "twolane", 30_000, 24_000, 1_000),
        *rates(bench, "noop-32", "arq", 300),
        *rates(bench, "noop-32", "huey", 4_000),
    )

    found = reached(bench, report)

    measure = "no-op IO jobs, one worker process, concurrency 32"
    assert found[measure] == ("24,000 jobs/s", "yes")
    assert found["… over the best peer"] == ("6.0 ×", "**no**")
    assert found["… over arq with its defaults"] == ("80.0 ×", "yes")
    assert found["bulk enqueue"] == ("not measured", "")


def test_a_fleet_is_compared_with_slots_that_are_never_empty(bench: SimpleNamespace) -> None:
    report = report_of(
        bench,
        sample(bench, "fleet-10", "twolane", 1, seconds=24.5),  # 6 waves of 4 s are 24 s
        sample(bench, "fleet-30", "twolane", 1, seconds=12.1),  # 2 waves are 8 s
    )

    found = reached(bench, report)

    title = "600 jobs of 4 s, {} workers of 10 slots, of the ideal"
    assert found[title.format(10)] == ("1.02 ×", "yes")
    assert found[title.format(30)] == ("1.51 ×", "**no**")


def test_a_share_of_bare_cores_is_a_quotient_of_rates(bench: SimpleNamespace) -> None:
    report = report_of(
        bench,
        *rates(bench, "cpu-10", "twolane", 380),
        *rates(bench, "cpu-10", "bare", 400),
    )

    assert reached(bench, report)["CPU jobs of 10 ms, of bare cores"] == ("0.950", "yes")


# -- tables and the page ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.123"), (1.5, "1.5"), (99.94, "99.9"), (100.4, "100"), (25_123.4, "25,123")],
)
def test_figures_have_three_digits_or_all_of_the_whole_part(
    bench: SimpleNamespace, value: float, text: str
) -> None:
    assert bench.tables.number(value) == text


def test_a_line_tells_median_spread_samples_and_an_early_end(bench: SimpleNamespace) -> None:
    ours = rates(bench, "noop-32", "twolane", 30_000, 24_000, 26_000)
    theirs = rates(bench, "noop-32", "saq", 1_300)
    theirs[0].completed = 400
    report = report_of(bench, *ours, *theirs)

    lines = bench.tables.workload_grid(report, bench.workloads.ALL["noop-32"]).lines

    assert lines == [
        ("twolane", "26,000 (24,000–30,000)", "1,000", "3", ""),
        ("SAQ", "1,300", "400 of 1,000", "1", "20 ×"),
    ]


def test_every_row_of_a_markdown_table_has_as_many_cells(bench: SimpleNamespace) -> None:
    report = report_of(
        bench,
        *rates(bench, "noop-32", "twolane", 30_000, 24_000),
        bench.report.Sample("latency", "rq", 1, error="it ended"),
        sample(bench, "idle", "twolane", 1, cpu_percent=0.4, rss_mb=50.0, pss_mb=40.0),
    )

    for block in re.findall(r"(?:^\|.*\n)+", bench.docs.page(report), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_the_page_is_the_same_after_a_way_through_json(bench: SimpleNamespace) -> None:
    report = report_of(bench, *rates(bench, "noop-32", "twolane", 30_000, 24_000, 26_000))

    again = bench.report.load(bench.report.dump(report))

    assert bench.docs.page(again) == bench.docs.page(report)


def test_the_page_names_no_file_of_the_machine(bench: SimpleNamespace) -> None:
    error = "Traceback\n  File\nOSError: no /home/somebody/bench/board"
    report = report_of(bench, bench.report.Sample("noop-32", "rq", 1, error=error))

    page = bench.docs.page(report)

    assert "OSError: no …" in page
    assert "somebody" not in page


# -- what is measured, with whom -------------------------------------------------------------------


def test_every_workload_and_every_choice_names_known_contestants(bench: SimpleNamespace) -> None:
    known = set(bench.contestants.ALL)
    for workload in bench.workloads.ALL.values():
        assert bench.contestants.OURS in workload.contestants
        assert set(workload.contestants) <= known
    for name, contestants in bench.workloads.QUICK.only.items():
        assert set(contestants) <= set(bench.workloads.ALL[name].contestants)


def test_a_named_workload_and_named_contestants_are_measured(bench: SimpleNamespace) -> None:
    def chosen(*arguments: Any) -> dict[str, list[str]]:
        pairs = bench.cli.choose(*arguments)
        return {workload.name: [one.name for one in several] for workload, several in pairs}

    quick, full = bench.workloads.QUICK, bench.workloads.FULL
    assert list(chosen(quick, None, None)) == list(quick.only)
    assert list(chosen(full, None, None)) == list(bench.workloads.ALL)
    assert chosen(quick, ("latency", "cpu-0"), ("twolane", "bare")) == {
        "cpu-0": ["twolane", "bare"],
        "latency": ["twolane"],
    }


def test_every_peer_is_pinned_with_hashes_and_without_an_address(bench: SimpleNamespace) -> None:
    peers = SCRIPTS / "benchmarks" / "peers"
    for one in bench.contestants.ALL.values():
        assert (peers / f"{one.module}.py").exists()
        if one.environment is None:
            continue
        lock = (peers / f"{one.environment}.txt").read_text()
        pins = re.findall(r"^\S+==\S+", lock, re.MULTILINE)
        assert pins
        assert len(re.findall(r"^\S+==\S+.*\\\n    --hash=", lock, re.MULTILINE)) == len(pins)
        assert "://" not in lock


# -- what runs beside a peer -----------------------------------------------------------------------


def test_a_job_marks_its_own_place_on_the_board(bench: SimpleNamespace, tmp_path: Path) -> None:
    board = bench.board.Board.create(tmp_path / "board", 10)

    bench.board.Board(str(tmp_path / "board")).mark(3)

    assert [place for place in range(10) if board.times[place]] == [3]
    assert board.processes[3]


def test_a_plan_survives_its_way_through_the_environment(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = bench.plan.Plan("redis://127.0.0.1:1/0", 32, True, "board", {"tuned": 1})

    monkeypatch.setenv(bench.plan.VARIABLE, plan.dump())

    assert bench.plan.current() == plan


def test_a_late_send_does_not_move_the_ones_after_it(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000_000

    def sleep(seconds: float) -> None:
        nonlocal now
        now += round(seconds * 1e9)

    class Slow:
        def enqueue(self, kind: str, indices: range, amount: float) -> None:
            sleep(0.05 if indices.start == 1 else 0.0)

    clock = SimpleNamespace(monotonic_ns=lambda: now, sleep=sleep)
    monkeypatch.setattr(bench.launch, "time", clock)

    intended = bench.launch.pace(Slow(), range(4), 0.02)

    assert [one - intended[0] for one in intended] == [0, 20_000_000, 40_000_000, 60_000_000]
    # The second took 50 ms from 20 ms on: the last two were sent at once, at 70 ms.
    assert now == intended[0] + 70_000_000


def test_a_producer_answers_every_order_with_one_line(bench: SimpleNamespace) -> None:
    sent: list[tuple[str, range, float]] = []
    lines: list[str] = []

    class Recorder:
        def enqueue(self, kind: str, indices: range, amount: float) -> None:
            sent.append((kind, indices, amount))

    class Answers:
        def write(self, text: str) -> None:
            lines.append(text)

        def flush(self) -> None: ...

    order = json.dumps({"kind": "wait", "first": 5, "count": 3, "amount": 0.5})
    bench.launch.produce(Recorder(), [order], Answers())

    assert sent == [("wait", range(5, 8), 0.5)]
    answers = [json.loads(one) for one in "".join(lines).splitlines()]
    assert answers[0] == {"ready": True}
    assert list(answers[1]) == ["seconds"]


def test_a_process_that_ended_takes_nothing_from_the_time_of_the_others(
    bench: SimpleNamespace,
) -> None:
    before = {(1, 0.0): 5.0, (2, 0.0): 1.0}
    after = {(2, 0.0): 1.5, (3, 9.0): 0.25}

    assert bench.measure.difference(before, after) == 0.75
