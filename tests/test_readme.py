"""The commands that the documents show exist, with the options that they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.cli.conftest import ROOT
from twolane.cli import COMMANDS, cli

BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(document: Path) -> list[str]:
    """The lines that begin with ``$`` in a document's console blocks, continuations joined."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8").replace("\\\n", " "))
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def own_commands(line: str) -> list[list[str]]:
    """The ``twolane`` commands of a shell line, without redirections and comments."""
    words = shlex.split(line, comments=True)
    found: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "&&", "||", ";", "&"):
            found.append([])
        elif word.startswith((">", "2>", "<")):
            found[-1].append("\0")  # what follows belongs to the shell
        else:
            found[-1].append(word)
    cut = [words[: words.index("\0")] if "\0" in words else words for words in found]
    plain = [[word for word in words if not re.match(r"[A-Z_]+=", word)] for words in cut]
    return [words[1:] for words in plain if words and words[0] == "twolane"]


def fault_of(command: click.Command, ctx: click.Context, rest: list[str]) -> str | None:
    try:
        command.make_context(ctx.info_name, list(rest), parent=ctx.parent)
    except click.UsageError as error:
        return error.format_message()
    return None


DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SHOWN = [
    pytest.param(words, id=f"{document.name}: {' '.join(words)}")
    for document in DOCUMENTS
    for line in shown(document)
    for words in own_commands(line)
]


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_that_a_document_shows_is_one(words: list[str]) -> None:
    command: click.Command = cli
    ctx = click.Context(cli, info_name="twolane")
    rest = words
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(ctx, rest[0])
        if found is None and command.invoke_without_command:
            break
        assert found is not None, f"no such command: {' '.join(words)}"
        ctx = click.Context(found, info_name=rest[0], parent=ctx)
        command, rest = found, rest[1:]

    known = {name for one in command.get_params(ctx) for name in [*one.opts, *one.secondary_opts]}
    used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}

    assert used <= known
    assert command.get_help(ctx)
    # Parsed as the command line would be, with nothing done.
    fault = fault_of(command, ctx, rest)
    assert fault is None or "No such file" in fault  # a file of the reader's


def test_the_readme_shows_commands() -> None:
    assert len([one for one in SHOWN if str(one.id).startswith("README.md")]) >= 5


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    missing = [name for name in COMMANDS if f"twolane {name}" not in text]

    assert missing == []


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("twolane up", [["up"]]),
        ("twolane runs collect x > file.csv", [["runs", "collect", "x"]]),
        ("TWOLANE_JOBS=a twolane jobs | head", [["jobs"]]),
        ("scripts/demo", []),
        ("make-jobs | twolane enqueue file -   # all", [["enqueue", "file", "-"]]),
    ],
)
def test_a_shell_line_is_read_as_the_shell_would(line: str, commands: list[list[str]]) -> None:
    assert own_commands(line) == commands
