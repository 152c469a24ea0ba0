"""The figures of a comparison, on outcomes whose answers are known beforehand."""

from __future__ import annotations

import pytest

from producer.comparison import Quantiles, compare
from tests.producer.making import made


def test_jobs_side_by_side_take_the_time_of_one() -> None:
    outcomes = [made(n, run_seconds=2.0, cpu_seconds=0.01) for n in range(4)]

    (row,) = compare(outcomes)

    assert (row.lane, row.job, row.jobs) == ("io", "wait", 4)
    assert row.wall == pytest.approx(2.0)
    assert row.throughput == pytest.approx(2.0)
    assert row.run_total == pytest.approx(8.0)
    assert row.concurrency == pytest.approx(4.0)
    assert row.speedup == pytest.approx(4.0)
    assert row.cores == pytest.approx(0.02)


def test_jobs_one_after_another_gain_nothing() -> None:
    outcomes = [made(n, at=n, run_seconds=1.0, cpu_seconds=1.0) for n in range(3)]

    (row,) = compare(outcomes)

    assert row.wall == pytest.approx(3.0)
    assert row.concurrency == pytest.approx(1.0)
    assert row.speedup == pytest.approx(1.0)
    assert row.cores == pytest.approx(1.0)


def test_the_wait_in_the_queue_is_in_the_wall_and_not_in_the_span_of_the_runs() -> None:
    # Enqueued at 0, started at 3, done at 4.
    (row,) = compare([made(at=3, wait_ms=3000.0, run_seconds=1.0, cpu_seconds=0.5)])

    assert row.wall == pytest.approx(4.0)
    assert row.throughput == pytest.approx(0.25)
    assert row.speedup == pytest.approx(0.25)
    assert row.concurrency == pytest.approx(1.0)
    assert row.cores == pytest.approx(0.5)


def test_a_single_job_is_its_own_quantiles() -> None:
    (row,) = compare([made(wait_ms=250.0, run_seconds=1.5)])

    assert (row.run.p50, row.run.p95, row.run.p99) == (1.5, 1.5, 1.5)
    assert (row.wait.p50, row.wait.p95, row.wait.p99) == (0.25, 0.25, 0.25)


def test_quantiles_are_interpolated_between_neighbours() -> None:
    found = Quantiles.of([float(n) for n in range(101)])

    assert (found.p50, found.p95, found.p99) == pytest.approx((50.0, 95.0, 99.0))
    assert Quantiles.of([1.0, 2.0]).p50 == pytest.approx(1.5)


def test_failed_and_cancelled_jobs_are_counted_apart() -> None:
    outcomes = [
        made(0),
        made(1, success=False),
        made(2, success=False),
        made(3, success=False, cancelled=True),
    ]

    (row,) = compare(outcomes)

    assert (row.jobs, row.failed, row.cancelled) == (4, 2, 1)


def test_a_run_of_nothing_but_jobs_cancelled_before_they_started_divides_by_nothing() -> None:
    (row,) = compare([made(0, try_=0, success=False, cancelled=True)])

    assert row.run_total == row.concurrency == row.speedup == row.cores == 0
    assert row.retried == 0


def test_a_lane_of_several_jobs_gets_a_row_of_its_own_after_theirs() -> None:
    outcomes = [
        made(0, function="query", run_seconds=1.0),
        made(1, function="fetch", run_seconds=3.0),
        made(2, function="count", lane="cpu", run_seconds=2.0, cpu_seconds=2.0),
    ]

    rows = compare(outcomes)

    assert [(row.lane, row.job) for row in rows] == [
        ("io", "fetch"),
        ("io", "query"),
        ("io", ""),
        ("cpu", "count"),
    ]
    assert rows[2].jobs == 2
    assert rows[2].run_total == pytest.approx(4.0)


def test_a_retried_job_is_one_job_and_counted_as_retried() -> None:
    (row,) = compare([made(0, try_=3), made(1, try_=1), made(2, try_=None)])

    assert (row.jobs, row.retried) == (3, 1)


def test_the_longest_hold_and_the_peak_memory_are_those_of_the_worst_job() -> None:
    (row,) = compare([made(0, hold_seconds=0.1, memory_bytes=7), made(1, hold_seconds=0.3)])

    assert (row.longest_hold, row.peak_memory_bytes) == (0.3, 7)


def test_no_outcomes_make_no_rows() -> None:
    assert compare([]) == []


def test_an_outcome_of_a_stock_arq_worker_has_no_lane_and_counts_as_io() -> None:
    (row,) = compare([made(lane="")])

    assert row.lane == "io"


def test_a_job_that_was_tried_again_counts_from_when_its_run_was_made() -> None:
    # Its last try was due only after its backoff; the wall time once left that out.
    again = made(0, try_=2, at=10.0, wait_ms=5, run_seconds=1.0)

    (alone,) = compare([again])
    (row,) = compare([again], created_ms=again.started_ms - 4_000)

    assert alone.wall == pytest.approx(1.005)
    assert row.wall == pytest.approx(5.0)
    assert row.throughput == pytest.approx(0.2)
    assert row.retried == 1
