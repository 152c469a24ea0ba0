"""Numbers and tables as people read them; untrusted text that no terminal acts on."""

from __future__ import annotations

import io

import pytest

from producer.cli import tables
from producer.comparison import compare
from tests.producer.making import made

# Colour, title, an 8-bit CSI, a reversal of direction, a line separator, a backspace and a bell.
NASTY = "\x1b[31m \x1b]0;x\x07 \x9b31m \u202e \u2028 \b \r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000_000_4, "0.40 µs"),
        (0.000_35, "350 µs"),
        (0.001, "1.00 ms"),
        (0.0512, "51.2 ms"),
        (0.999, "999 ms"),
        (1, "1.00 s"),
        (3.5, "3.50 s"),
        (42.25, "42.2 s"),
        (99.4, "99.4 s"),
        (100, "1 min 40 s"),
        (125, "2 min 5 s"),
        (3600, "60 min 0 s"),
    ],
)
def test_seconds_have_three_figures_and_a_unit(value: float, text: str) -> None:
    assert tables.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (50 * 1024**2, "50 MiB"),
        (1536 * 1024**2, "1.5 GiB"),
        (5 * 1024**4, "5120.0 GiB"),
    ],
)
def test_sizes(value: int, text: str) -> None:
    assert tables.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.523, "0.52"), (51.94, "51.9"), (1042.4, "1,042"), (1e6, "1,000,000")],
)
def test_numbers(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_a_cell_cannot_act_on_a_terminal() -> None:
    out = Terminal()

    tables.console(out).print(tables.table(("job",), [(NASTY,)]))

    assert NASTY not in out.getvalue()
    for dangerous in ("\x1b[31m", "\x1b]", "\x9b", "\u202e", "\u2028", "\b", "\x07", "\r"):
        assert dangerous not in out.getvalue()


def test_a_cell_is_not_taken_for_markup() -> None:
    out = io.StringIO()

    tables.console(out).print(tables.table(("job",), [("[red]x[/] [/nope] :smile:",)]))

    assert "[red]x[/] [/nope] :smile:" in out.getvalue()


def test_no_row_is_folded_or_coloured_where_nobody_has_a_window() -> None:
    out = io.StringIO()

    tables.console(out).print(tables.table(("job", "message"), [("x" * 200, "y" * 300)]))

    head, row = out.getvalue().splitlines()
    assert row == "x" * 200 + "  " + "y" * 300
    assert head.split() == ["job", "message"]
    assert "\x1b" not in out.getvalue()


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()

    tables.console(coloured).print("yes", style="green")
    monkeypatch.setenv("NO_COLOR", "1")
    tables.console(plain).print("yes", style="green")

    assert "\x1b[32m" in coloured.getvalue()
    assert plain.getvalue() == "yes\n"


def test_the_comparison_has_a_row_for_each_row() -> None:
    outcomes = [
        made(0, function="fetch", run_seconds=0.05),
        made(1, function="query", success=False, run_seconds=0.05),
    ]
    out = io.StringIO()

    tables.console(out).print(tables.comparison(compare(outcomes)))

    head, fetch, query, lane = out.getvalue().splitlines()
    assert head.split()[:4] == ["lane", "job", "jobs", "failed"]
    assert fetch.split()[:4] == ["io", "fetch", "1", "0"]
    assert query.split()[:4] == ["io", "query", "1", "1"]
    assert lane.split()[:4] == ["io", "all", "2", "1"]
    assert lane.rstrip().endswith("2.00×")
