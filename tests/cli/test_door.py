"""The door: quick to open, and true to what stands behind it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from redis.asyncio import Redis

from producer.submit import Caller, submit
from tests.cli.conftest import COMMAND, ROOT, Ended, Run, run_command
from tests.producer.making import claim, settle, succeeded
from twolane import __version__
from twolane.cli import COMMANDS, cli
from twolane.commandline import ENV_PREFIX, Option
from twolane.registry import Registry

SLOW_TO_LOAD = (
    "arq",
    "aiohttp",
    "numpy",
    "plotext",
    "plotly",
    "redis",
    "rich",
    "scipy",
    "sqlalchemy",
    "uvloop",
)


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with context(command, path) as ctx:
            for name in command.list_commands(ctx):
                found = command.get_command(ctx, name)
                assert found is not None
                yield from commands(found, (*path, name))


def context(command: click.Command, path: tuple[str, ...]) -> click.Context:
    prefix = "_".join((ENV_PREFIX, *path)).upper()
    return click.Context(command, info_name=" ".join(("twolane", *path)), auto_envvar_prefix=prefix)


ALL = list(commands())
NAMES = [" ".join(path) or "twolane" for path, _ in ALL]


@pytest.mark.parametrize("module", ["twolane.cli", "twolane"])
def test_opening_the_door_loads_no_library_that_only_a_command_needs(module: str) -> None:
    code = f"import sys, {module}, json; print(json.dumps(sorted(sys.modules)))"

    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))

    assert module in loaded
    assert not set(SLOW_TO_LOAD) & set(loaded)
    assert not any(name.partition(".")[0] in ("producer", "worker") for name in loaded)


def test_help_and_version_load_no_command() -> None:
    for option in ("--help", "--version"):
        code = (
            f"import sys; from twolane.cli import main; main([{option!r}]);"
            "print([name for name in sys.modules if name.startswith(('producer', 'worker'))])"
        )

        out = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)

        assert out.splitlines()[-1] == "[]"


def test_help_lists_every_command_with_what_the_command_says_of_itself() -> None:
    ended = run_command("--help")

    assert (ended.code, ended.err) == (0, "")
    words = " ".join(ended.out.split())
    for name, (_, text) in COMMANDS.items():
        assert f" {name} {text}" in words


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_doors_word_for_a_command_is_the_commands_own(name: str) -> None:
    command = cli.get_command(context(cli, ()), name)

    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=200) == COMMANDS[name][1]


@pytest.mark.parametrize(("path", "command"), ALL, ids=NAMES)
def test_every_option_has_a_variable_and_help_names_it(
    path: tuple[str, ...], command: click.Command
) -> None:
    with context(command, path) as ctx:
        text = " ".join(command.get_help(ctx).split())
        for one in command.get_params(ctx):
            if not isinstance(one, click.Option) or one.hidden:
                continue
            if one.is_eager:  # --help and --version
                continue
            assert isinstance(one, Option), f"{one.opts}: made with click.option, not with ours"
            variable = one.envvar or one.variable(ctx)
            assert isinstance(variable, str)
            assert variable.startswith("TWOLANE_")
            assert f"env var: {variable}" in text


@pytest.mark.parametrize(("path", "command"), ALL, ids=NAMES)
def test_help_of_every_command_leads_with_an_example(
    path: tuple[str, ...], command: click.Command
) -> None:
    with context(command, path) as ctx:
        text = command.get_help(ctx)

    assert "twolane " in text.partition("\n")[2].partition("Options:")[0]


@pytest.mark.parametrize(("path", "command"), ALL, ids=NAMES)
def test_help_shows_no_mark_that_is_meant_for_click(
    path: tuple[str, ...], command: click.Command
) -> None:
    # A raw docstring once had the two characters where click wants the one.
    with context(command, path) as ctx:
        text = command.get_help(ctx)

    assert "\\b" not in text
    assert "\b" not in text


def test_a_variable_is_named_for_the_option_and_not_for_the_functions_parameter(
    twolane: Run,
) -> None:
    ended = twolane(
        "enqueue", "query", TWOLANE_ENQUEUE_QUERY_RUN="mine", TWOLANE_ENQUEUE_QUERY_JSON="1"
    )

    assert ended.code == 0
    assert json.loads(ended.out) == {"run": "mine", "jobs": 1}


def test_the_version() -> None:
    assert run_command("--version") == (0, f"twolane, version {__version__}\n", "")


def test_an_unknown_command_is_a_usage_error() -> None:
    code, out, err = run_command("fly")

    assert (code, out) == (2, "")
    assert err == "Error: No such command 'fly' (see `twolane --help`)\n"


@pytest.mark.parametrize(("word", "meant"), [("stats", "status"), ("run", "runs")])
def test_a_command_that_is_nearly_right_is_named(word: str, meant: str) -> None:
    code, out, err = run_command(word)

    assert (code, out) == (2, "")
    assert err.startswith(f"Error: No such command '{word}'. Did you mean '{meant}'")
    assert err.count("\n") == 1


@pytest.mark.parametrize("path", [(), ("enqueue",), ("worker",), ("dead",)], ids=str)
def test_a_group_without_a_command_shows_its_help(path: tuple[str, ...]) -> None:
    code, out, err = run_command(*path)

    assert (code, out) == (2, "")
    assert err.startswith(f"Usage: {' '.join(('twolane', *path))} [OPTIONS] COMMAND")
    assert "Error" not in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_completion_is_printed(shell: str) -> None:
    code, out, err = run_command(_TWOLANE_COMPLETE=f"{shell}_source")

    assert (code, err) == (0, "")
    assert "_TWOLANE_COMPLETE" in out
    assert "twolane" in out


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        ("twolane st", "1", "status"),
        ("twolane enqueue pri", "2", "primes"),
        ("twolane enqueue primes --chu", "3", "--chunks"),
        ("twolane enqueue primes --method tr", "4", "trial"),
    ],
)
def test_words_are_completed(words: str, number: str, expected: str) -> None:
    code, out, _ = run_command(
        _TWOLANE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=number
    )

    assert code == 0
    assert out.split() == [f"plain,{expected}"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [["jobs"], ["runs", "collect", "x"], ["runs", "show", "x"], ["runs", "show", "x", "--csv"]],
    ids=str,
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(
    twolane: Run, command: list[str], unbuffered: str
) -> None:
    twolane("enqueue", "query", "--run", "x")
    twolane("cancel", "x")

    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "twolane", *command],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},  # "": it is flushed at the end
        )  # fmt: skip

    assert ended.returncode == 1
    assert ended.stderr == "Error: output: No space left on device\n"


def closing(streams: str, *words: str, variables: dict[str, str] | None = None) -> Ended:
    """Run a command with some of its standard streams closed, or a full disk: ``>&- 2>/dev/full``.

    What is said where there is no stream is in neither text.
    """
    line = f"exec {shlex.join([*COMMAND, *words])} {streams}"
    ended = subprocess.run(
        ["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT,
        check=False, timeout=60, env={**os.environ, **(variables or {})},
    )  # fmt: skip
    return Ended(ended.returncode, ended.stdout, ended.stderr)


PRINTING = [
    ["--help"], ["--version"], ["runs", "--help"], ["jobs"], ["jobs", "--json"], ["runs"],
    ["runs", "list"],
    ["runs", "--json"], ["runs", "show", "x"], ["runs", "show", "x", "--csv"],
    ["runs", "collect", "x"], ["runs", "collect", "x", "--format", "csv"],
    ["runs", "compare", "x", "x"], ["status"], ["status", "--json"], ["dead", "list", "--json"],
    ["dead", "retry", "--all"], ["dead", "drop", "--all"], ["watch", "--for", "100ms"],
    ["watch", "--json", "--for", "100ms"], ["enqueue", "query"], ["target", "--port", "0"],
    ["size", "--rate=5", "--slo=1s", "--lane=io", "--mean-run=50ms"],
]  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "why"),
    [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")],
)
async def test_every_command_whose_output_has_no_place_says_so_in_one_line(
    twolane: Run, client: Redis, streams: str, why: str
) -> None:
    """With a closed output there were tracebacks, and ``target`` said that it cannot listen."""
    caller = Caller(Registry.load(["tests.cli.sample_jobs"]))
    await submit(client, [caller.call("square", {"n": 3})] * 2, "job", "x")
    await settle(client, await claim(client, "cpu"), succeeded(9), lane="cpu")

    ended = {" ".join(words): closing(streams, *words) for words in PRINTING}

    assert ended == dict.fromkeys(ended, Ended(1, "", f"Error: output: {why}\n"))


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_what_cannot_be_said_changes_neither_the_output_nor_the_exit_code(
    twolane: Run, streams: str
) -> None:
    """A full disk under the messages made each of these exit code 1."""
    assert closing(streams, "enqueue", "query", "--run", "mine") == (0, "mine\n", "")
    assert closing(streams, "runs", "show", "mine").code == 0
    assert closing(streams, "runs", "show", "nope") == (2, "", "")
    assert closing(streams, "nonsense") == (2, "", "")
    assert closing(streams, "--version").code == 0


def test_with_no_stream_at_all_a_command_does_its_work(twolane: Run) -> None:
    assert closing("<&- >&- 2>&-", "enqueue", "query", "--run", "mine").code == 1
    assert "mine" in twolane("runs").out


def test_a_closed_output_is_not_what_a_connection_gets(tmp_path: Path) -> None:
    """The next thing that is opened would take its number, and get what is printed."""
    code = (
        "import os, sys; from twolane.commandline import one_line_errors;"
        "one_line_errors(lambda **_: None)();"
        "found = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR);"
        "os.write(found, str(found).encode())"
    )
    place = tmp_path / "number"

    subprocess.run(
        ["sh", "-c", f"exec {shlex.join([sys.executable, '-c', code, str(place)])} <&- >&- 2>&-"],
        cwd=ROOT, check=True, timeout=60,
    )  # fmt: skip

    assert int(place.read_text()) > 2


def test_a_reader_that_goes_away_is_told_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "twolane", "jobs"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()

    assert process.wait(60) == 1
    assert said == ""


def test_a_terminal_that_knows_ascii_alone_gets_what_it_can_show(twolane: Run) -> None:
    twolane("enqueue", "query", "--run", "ascii")
    twolane("cancel", "ascii")

    ended = twolane("runs", "show", "ascii", PYTHONIOENCODING="ascii")

    assert ended.code == 4
    assert "1 ? cancelled" in ended.out
    assert ended.err == ""
