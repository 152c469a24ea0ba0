"""What a sweep says, from made measurements."""

from __future__ import annotations

import pytest

from producer import scaling
from tests.producer.laboratory import COUNTS, point, points_on


def told(points: list[scaling.Point], lane: scaling.Lane = "cpu") -> str:
    return " ".join(scaling.tell(scaling.fitted(points), points, lane))


@pytest.mark.parametrize("cores", [3, 4])
def test_about_as_many_workers_as_cores_are_recommended(cores: int) -> None:
    found = scaling.fitted(points_on(cores))

    assert found is not None
    assert abs(found.recommended.count - cores) <= 1


def test_the_sentences_of_four_cores() -> None:
    said = told(points_on(4))

    assert "the fewest that reach 95 % of the best throughput predicted for 1 to 8" in said
    assert "With 8 workers the limit was this machine's CPU (99% busy)" in said
    assert "extrapol" not in said


def test_a_lane_that_nothing_limits_is_said_to_want_more_workers() -> None:
    points = [
        point(count, 400.0 * count * (1 + 0.001 * number), number, machine=0.2 * count)
        for number in range(3)
        for count in COUNTS
    ]
    for one in points:
        one.busy.others["workers"] = 0.2 * one.workers

    said = told(points, "io")

    assert "grows in proportion (linear)" in said
    assert "nothing but the slots was at its limit (100% busy): more workers will do more" in said
    assert "extrapolated beyond what was measured" in said


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"broker": 0.97}, "Valkey, which runs commands in one thread (97% busy)"),
        ({"target": 0.93}, "the web service, which has one process (93% busy)"),
    ],
)
def test_what_limits_is_named(changes: dict[str, float], name: str) -> None:
    points = [
        point(count, 900.0 * min(count, 3), number, machine=1.0, **changes)
        for number in range(3)
        for count in COUNTS
    ]
    for one in points:
        one.busy.others["workers"] = 0.1

    assert f"With 8 workers the limit was {name}." in told(points, "io")


def test_jobs_that_run_longer_while_nothing_here_is_busy_wait_for_an_overrun_service() -> None:
    points = [
        point(count, 400.0 * min(count, 3), number, machine=0.8)
        for number in range(3)
        for count in COUNTS
    ]
    for one in points:
        one.busy.others["workers"] = 0.2
        one.run.p50 *= max(1, one.workers / 3)

    said = told(points, "io")

    assert "With 8 workers a job ran 2.7 times as long as with the fewest" in said
    assert "what the jobs wait for (the web service, the database) was" in said


def test_fewer_than_six_counts_are_warned_of() -> None:
    points = [one for one in points_on(4) if one.workers in (1, 2, 4)]

    assert "Only 3 different counts were measured" in told(points)


def test_too_few_measurements_have_no_curve_and_say_so() -> None:
    points = [point(1, 10.0), point(2, 20.0)]

    assert scaling.fitted(points) is None
    assert "A curve needs four measurements at three different counts" in told(points)
    assert scaling.as_data(None) is None


def test_an_empty_backlog_is_told() -> None:
    points = points_on(4)
    points[0].lowest_backlog = 0

    assert points[0].workers == 1
    assert "The backlog was empty at a look with 1 worker: they may" in told(points)


def test_a_machine_that_was_not_quiet_is_told() -> None:
    points = points_on(4)
    assert "Something else" not in told(points)
    for one in points:
        one.busy.machine = one.busy.others["workers"] + 0.6

    assert "Something else on this machine used 0.5 of its 4 cores meanwhile" in told(points)


def test_failures_and_short_windows_are_told() -> None:
    points = points_on(4)
    points[3].failed = points[3].jobs // 2
    points[0].jobs = 10

    said = told(points)

    assert "jobs failed: the figures are of what failed, too" in said
    assert "A window had as few as 10 jobs" in said


def test_lines_have_the_median_of_the_rounds_over_the_smallest_count() -> None:
    points = [point(2, 10.0, 0), point(2, 12.0, 1), point(2, 30.0, 2), point(4, 24.0, 0)]

    first, second = scaling.lines(points)

    assert (first.workers, first.throughput, first.lowest, first.highest) == (2, 12.0, 10.0, 30.0)
    assert (second.speedup, second.efficiency) == (2.0, 1.0)


def test_on_fewer_usable_cores_than_the_machine_has_its_cpu_is_at_its_limit() -> None:
    one = point(2, 26.0, machine=1.0)
    one.busy.usable_cores = 1
    one.busy.others["workers"] = 0.95

    (nearest, *_) = scaling.limits([one], "cpu", 2)

    assert (nearest.name, nearest.share) == (scaling.MACHINE, pytest.approx(1.05))


def test_the_fit_as_data_has_the_curve_within_the_measured_counts() -> None:
    data = scaling.as_data(scaling.fitted(points_on(4)))

    assert data is not None
    assert [one["workers"] for one in data["curve"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert data["recommended"]["low"] <= data["recommended"]["count"]
