"""The plot at the end of the demo."""

from __future__ import annotations

import pytest

from producer import plot
from tests.producer.making import made

ENDS = {"io": [number / 50 for number in range(200)], "cpu": [number / 5 for number in range(20)]}


def test_each_lane_that_ran_has_a_plot_with_its_unit() -> None:
    drawn = plot.throughput({**ENDS, "none": []}, colour=False, plain_text=False)

    assert "io lane, jobs/s over seconds" in drawn
    assert "cpu lane, jobs/s over seconds" in drawn
    assert "none lane" not in drawn
    assert "\x1b" not in drawn
    assert max(map(len, drawn.splitlines())) <= plot.WIDTH


def test_a_terminal_that_knows_ascii_alone_gets_ascii() -> None:
    assert plot.throughput(ENDS, colour=False, plain_text=True).isascii()


def test_with_colour_each_lane_has_its_own() -> None:
    drawn = plot.throughput(ENDS, colour=True, plain_text=False)

    assert "\x1b[" in drawn


def test_a_narrow_terminal_is_not_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    drawn = plot.throughput(ENDS, colour=False, plain_text=False)

    assert max(map(len, drawn.splitlines())) <= 40


def test_ends_count_from_the_first_start() -> None:
    found = plot.ends_of(
        [
            made(1, at=1.0, run_seconds=0.5),
            made(2, at=2.0, run_seconds=0.25, lane="cpu"),
            made(3, at=9.0, cancelled=True),
        ]
    )

    assert found == {"io": [0.5], "cpu": [1.25]}
