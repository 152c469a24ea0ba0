"""Reports as files: what is in them, and that nothing in them can act."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from producer import sizing
from producer.comparison import Quantiles
from producer.report import load, run
from producer.report import scaling as scale_page
from producer.report.page import render, text
from tests.producer.laboratory import MACHINE, loaded, points_on
from tests.producer.making import collected, made
from tests.producer.pages import (
    HOSTILE,
    PAGES,
    outcomes,
    run_page,
)
from twolane.errors import RemoteError


def block(page: str, name: str) -> Any:
    match = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    assert match is not None
    return json.loads(match[1])


@pytest.mark.parametrize("name", list(PAGES))
def test_every_report_has_its_raw_data_and_where_it_was_measured(name: str) -> None:
    page = PAGES[name]()

    assert block(page, "raw")["kind"] == name
    assert "Where this was measured" in page
    assert "Valkey 9.1.2" in page
    assert "a CPU, 4 cores, 4 usable, no quota" in page


@pytest.mark.parametrize("name", list(PAGES))
def test_every_axis_is_named_and_every_chart_has_a_title(name: str) -> None:
    page = PAGES[name]()

    charts = block(page, "charts")
    assert len(charts) >= 3
    assert page.count("<figcaption><h2>") == len(charts)
    for chart in charts:
        assert chart["data"]
        assert chart["layout"]["xaxis"]["title"]["text"]
        assert all(len(trace.get("x", [])) for trace in chart["data"])
    # Bars and dots have names on their upright axis, which need no unit.
    named = [chart["layout"]["yaxis"]["title"].get("text") for chart in charts]
    upright = [chart["data"][0].get("orientation") == "h" or "×" in str(chart["layout"]["xaxis"]
               .get("ticktext")) for chart in charts]  # fmt: skip
    assert all(title or is_named for title, is_named in zip(named, upright, strict=True))


@pytest.mark.parametrize("name", list(PAGES))
def test_series_differ_by_more_than_their_colour(name: str) -> None:
    for chart in block(PAGES[name](), "charts"):
        seen = [
            (
                trace.get("mode"), trace.get("line", {}).get("dash"),
                trace.get("marker", {}).get("symbol"), trace.get("fill"),
                trace.get("marker", {}).get("pattern", {}).get("shape"),
            )
            for trace in chart["data"]
        ]  # fmt: skip
        assert len({str(one) for one in seen}) == len(seen)


@pytest.mark.parametrize("name", list(PAGES))
def test_a_report_names_no_other_place(name: str) -> None:
    page = PAGES[name]()

    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)=", markup)
    assert "default-src 'none'" in markup
    assert "connect-src" not in markup, "what default-src forbids, nothing allows again"
    assert "unsafe-inline'; img-src" in markup
    assert "unsafe-eval" not in markup


def test_what_jobs_are_named_and_say_is_text() -> None:
    page = run_page(HOSTILE)

    assert "<script>alert" not in page
    assert "<img" not in page.split("<script>")[0]
    assert "\x1b" not in page
    assert html.escape("<img src=x onerror=alert(2)>") in page
    assert HOSTILE in block(page, "raw")["jobs"]["job"], "the data have it as it is"
    names = json.dumps(block(page, "charts"))
    assert "<img" not in names
    assert "<script" not in names


def test_a_text_for_a_chart_has_no_markup_of_its_own() -> None:
    assert text('<b>"x"</b>\x07') == "&lt;b&gt;&quot;x&quot;&lt;/b&gt;�"


def test_a_run_of_which_nothing_ran_has_a_page() -> None:
    assert "nothing has run" in run.page(collected("none", []), [], None, {"kind": "run"})
    cancelled = collected("none", [made(1, success=False, cancelled=True)])
    assert "<h2>Each job</h2>" in run.page(cancelled, [], None, {"kind": "run"})


def test_waits_of_nothing_are_said_and_not_drawn() -> None:
    """A chart of them was empty but for a line at 1 ms, and said "less than 0"."""
    quick = [made(number, at=number / 50, run_seconds=2e-5) for number in range(9)]

    page = run.page(collected("quick", quick), [], None, {"kind": "run"})

    assert "<h2>No job waited for longer than 1 ms</h2>" in page
    assert "<h2>Half of the wait jobs ran for less than 20.0 µs</h2>" in page
    assert "No job ran for longer than 1 ms, where a chart of run times begins." in page
    assert "less than 0" not in page
    assert page.count("<figcaption>") == len(block(page, "charts"))
    some = [*quick, made(99, at=1.0, wait_ms=30, lane="cpu", run_seconds=0.3)]
    page = run.page(collected("some", some), [], None, {"kind": "run"})
    assert "Half of the jobs waited less than 1.00 ms on the io lane, 30.0 ms on the cpu" in page


def test_a_load_that_waited_for_nothing_has_the_run_times_and_the_prediction() -> None:
    one = loaded()
    one.wait, one.wait_mean = Quantiles(0, 0, 0), 0.0
    check = sizing.check(one)

    page = load.page(one, check, outcomes()[:150], [0.0] * 150, [], MACHINE,
                     {"kind": "load", "job": "j", "conditions": []})  # fmt: skip

    names = [trace.get("name") for chart in block(page, "charts") for trace in chart["data"]]
    assert "wait, measured" not in names
    assert {"run", "wait, predicted (M/G/c)"} <= set(names)
    assert "No job waited for longer: the measured waits are not drawn." in page
    assert "95 % waited less than 1.00 ms" in page


def test_failures_are_in_the_report() -> None:
    error = RemoteError("ValueError", "no luck")
    found = collected("bad", [*outcomes(), made(7, success=False, result=error)])

    page = run.page(found, [], MACHINE, {"kind": "run"}, [("ValueError", 1, "made: no luck")])

    assert "What failed" in page
    assert "made: no luck" in page


def test_a_sweep_without_a_curve_has_a_page() -> None:
    points = [one for one in points_on(4) if one.workers < 3]

    page = scale_page.page(points, None, "j", "cpu", [], [], MACHINE, {"kind": "scale"})

    assert "too few measurements for a curve" in page


def test_an_overload_has_a_page() -> None:
    one = loaded()
    one.slots = 5
    check = sizing.check(one)

    page = load.page(one, check, outcomes()[:150], [0.1] * 150, [], MACHINE,
                     {"kind": "load", "job": "j", "conditions": []})  # fmt: skip

    assert "No wait can be predicted: more is sent than the slots can do" in page


def test_data_that_json_has_no_form_for_stay_readable() -> None:
    page = render("t", "l", [], [], None, {"kind": "x", "inf": float("inf"), "b": b"\x00"})

    assert block(page, "raw") == {"kind": "x", "inf": "Infinity", "b": "00"}
