"""Tables in a narrow window: folded, in parts or as lines, and never cut."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import termios

import pytest
from redis.asyncio import Redis
from rich.cells import cell_len

from producer.cli import tables
from producer.cli.fitting import Fitted
from producer.comparison import compare
from producer.submit import Caller, submit
from tests.cli.conftest import COMMAND, ROOT, SAMPLES, Run
from tests.producer.making import claim, failed, made, settle, succeeded
from tests.producer.test_tables import Terminal
from twolane.registry import Registry

WIDTHS = (40, 60, 80, 100)
CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shown(command: list[str], width: int) -> list[str]:
    """The lines that a command leaves in a window of that width."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [*COMMAND, *command], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL,
        cwd=ROOT, env={**environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # the other end was closed
        while piece := os.read(ours, 65536):
            text += piece
    os.close(ours)
    assert process.wait(60) in (0, 4)
    return CODES.sub("", text.decode()).splitlines()


def rendered(table: Fitted, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    out = Terminal()
    tables.console(out).print(table)
    return CODES.sub("", out.getvalue())


def words_of(text: str) -> set[str]:
    """Names and numbers; times go on from one command to the next."""
    words = re.sub(r"[\d.,]+ (µs|ms|s|min)\b", "", text).split()
    return {word for word in words if re.fullmatch(r"[\w,.-]+", word)}


async def fill(client: Redis) -> None:
    """Runs and dead letters, with names as long as they come."""
    caller = Caller(Registry.load(["tests.cli.sample_jobs"]))
    await submit(client, [caller.call("square", {"n": 3})] * 1200, "job", "a-run-of-a-long-name")
    await settle(client, await claim(client, "cpu"), succeeded(9), lane="cpu")
    await submit(client, [caller.call("fail", {})] * 2, "job", "the-broken-one")
    await settle(client, await claim(client), failed("this broke " * 12))


@pytest.mark.parametrize("width", WIDTHS)
async def test_no_command_cuts_what_it_shows(twolane: Run, client: Redis, width: int) -> None:
    """At 40 columns most cells ended in "…", and whole columns were that alone."""
    await fill(client)
    commands = [
        ["runs"], ["runs", "show", "a-run-of-a-long-name"], ["status"], ["dead", "list"],
        ["jobs", SAMPLES, "--jobs=twolane.jobs"],
        ["runs", "compare", "a-run-of-a-long-name", "a-run-of-a-long-name"],
        ["size", "--rate=200", "--slo=2s", "--lane=io", "--mean-run=50ms", "--slots=10"],
    ]  # fmt: skip

    for command in commands:
        lines = shown(command, width)

        assert max(map(cell_len, lines)) <= width, command
        assert not any("…" in line for line in lines), command
        # A number or a name is never folded where the window has room for it.
        wanted = {word for word in words_of(twolane(*command).out) if cell_len(word) <= 18}
        assert wanted <= words_of("\n".join(lines)), command


@pytest.mark.parametrize("width", WIDTHS)
def test_the_columns_that_have_no_room_go_on_below(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("way", "at once", "wall", "jobs/s", "speed-up", "95 % interval", "longest block")
    cells = ("twolane workers", "100", "69.4 ms", "1,440", "71.6×", "65.1–78.9", "1.28 ms")
    table = tables.table(columns, [cells, ("asyncio", *cells[1:])], right=1)

    text = rendered(table, width, monkeypatch)

    assert all(cell_len(line) <= width for line in text.splitlines())
    assert all(cell in text for cell in (*columns, *cells))
    parts = [part for part in text.split("\n\n") if part]
    assert all(part.lstrip().startswith("way") for part in parts)
    assert all("twolane workers" in part and "asyncio" in part for part in parts)
    assert (len(parts) > 1) == (width < 100)
    assert table.height(width) == len(text.splitlines())


def test_a_long_text_at_the_end_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    table = tables.table(("id", "message"), [("a-0001", "it broke and broke " * 5)])

    lines = rendered(table, 40, monkeypatch).splitlines()

    assert len(lines) > 2
    assert lines[1].startswith("a-0001  it broke and broke")
    assert " ".join(" ".join(lines[1:]).split()).count("it broke and broke") == 5


def test_a_row_becomes_lines_where_nothing_else_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    table = tables.table(
        ("id", "error"), [("x" * 50, "ValueError"), ("y" * 50, "KeyError")]
    )  # fmt: skip

    lines = [line.rstrip() for line in rendered(table, 40, monkeypatch).splitlines()]

    assert lines == [
        "id     " + "x" * 33, "       " + "x" * 17, "error  ValueError", "",
        "id     " + "y" * 33, "       " + "y" * 17, "error  KeyError",
    ]  # fmt: skip


def test_texts_of_a_row_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    table = tables.table(("job", ""), [("fetch(url: str, times: int)", "Get a URL. " * 3)] * 2)

    first, second = rendered(table, 40, monkeypatch).rstrip().split("\n\n")

    assert first.split() == second.split()
    assert " ".join(first.split()).count("Get a URL.") == 3


def test_a_pipe_gets_every_row_in_one_line() -> None:
    long = "z" * 3_000
    out = io.StringIO()

    tables.console(out).print(tables.table(("id", "n", "message"), [(long, 1, long)]))

    _, row = out.getvalue().splitlines()
    assert row.split() == [long, "1", long]


async def test_a_pipe_gets_the_whole_message_of_a_dead_letter(twolane: Run, client: Redis) -> None:
    """It was cut after 80 letters."""
    await fill(client)

    ended = twolane("dead", "list", "--limit", "1")

    assert ("this broke " * 12).strip() in ended.out


@pytest.mark.parametrize("width", WIDTHS)
def test_the_comparison_of_a_run_names_its_jobs_in_each_part(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tables.comparison(compare([made(0, function="count_primes", run_seconds=0.05)]))

    parts = rendered(table, width, monkeypatch).split("\n\n")

    assert all("count_primes" in part for part in parts)
