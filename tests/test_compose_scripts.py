"""What goes with the compose file and needs no Docker: its preflight, and the scaling's figures."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.conftest import ROOT

Check = Callable[..., tuple[int, str]]
TOOLS = ("bash", "dirname", "sed", "tail", "head", "sort", "grep")
# A docker command that does as its variables say.
DOCKER = """#!/bin/sh
case "$1 $2" in
    "info ") exit "${FAKE_INFO:-0}" ;;
    "compose version") [ -n "$FAKE_COMPOSE" ] && echo "$FAKE_COMPOSE" ;;
    "compose ps") echo "$FAKE_PUBLISHED" ;;
    *) echo "invalid interpolation format" >&2; exit "${FAKE_CONFIG:-0}" ;;
esac
"""


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "settings"


@pytest.fixture
def check(tmp_path: Path, env_file: Path) -> Check:
    """Run scripts/compose-check where docker is a fake; its exit code and what it said."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    docker = folder / "docker"
    docker.write_text(DOCKER, encoding="ascii")
    docker.chmod(0o755)

    def run(*, docker_there: bool = True, **variables: str) -> tuple[int, str]:
        if not docker_there:
            docker.unlink()
        env = {"PATH": str(folder), "FAKE_COMPOSE": "2.26.1", **variables}
        done = subprocess.run(
            ["bash", str(ROOT / "scripts/compose-check"), "--env-file", str(env_file)],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


# -- scripts/compose-check --


def test_a_missing_env_file_is_no_problem_and_says_what_holds_then(check: Check) -> None:
    code, said = check(TARGET_PORT=str(free_port()))

    assert code == 0
    assert "the defaults hold, and passwords are made at random" in said
    assert "cp .env.example .env" in said
    assert said.endswith("Now: docker compose up -d --build\n")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"docker_there": False}, "there is no docker command; install Docker Engine"),
        ({"FAKE_INFO": "1"}, "the Docker engine does not answer; start it"),
        ({"FAKE_COMPOSE": ""}, "there is no Compose v2; install it"),
        ({"FAKE_COMPOSE": "v2.9.0"}, "Compose is 2.9.0, which is too old; install 2.23.1"),
        ({"FAKE_CONFIG": "1"}, "invalid interpolation format; compare"),
    ],
)
def test_a_docker_that_cannot_do_it_is_named_with_what_to_do(
    check: Check, variables: dict[str, str], words: str
) -> None:
    code, said = check(TARGET_PORT=str(free_port()), **variables)

    assert code == 1
    (problem,) = (line for line in said.splitlines() if line.startswith("PROBLEM"))
    assert words in problem


@pytest.mark.parametrize(
    ("line", "ok"),
    [
        ("VALKEY_PASSWORD=good-enough_1", True),
        ("VALKEY_PASSWORD='good-enough_1'  # mine", True),
        ("VALKEY_PASSWORD=", True),
        ("VALKEY_PASSWORD=  # none", True),
        ("VALKEY_PASSWORD=not good", False),
        ('POSTGRES_PASSWORD="p@ss:w0rd/1234"', False),
        ("export POSTGRES_PASSWORD = sm%C3%B6r", False),
    ],
)
def test_a_password_that_a_url_cannot_hold_is_refused_and_not_shown(
    check: Check, env_file: Path, line: str, ok: bool
) -> None:
    env_file.write_text(f"TARGET_PORT={free_port()}\n{line}\n", encoding="utf-8")

    code, said = check()

    assert code == (0 if ok else 1)
    assert ("use letters, digits, '-' and '_' only" in said) is not ok
    assert not any(secret in said for secret in ("good-enough_1", "p@ss", "not good", "sm%"))


def test_a_port_in_use_names_the_setting(check: Check, env_file: Path, taken: int) -> None:
    env_file.write_text(f"TARGET_PORT={taken}\n", encoding="utf-8")

    code, said = check()

    assert code == 1
    assert f"port {taken} of 127.0.0.1 is in use; set another one as TARGET_PORT in" in said


def test_a_port_in_use_by_the_compose_file_itself_is_none(check: Check, taken: int) -> None:
    code, _ = check(TARGET_PORT=str(taken), FAKE_PUBLISHED=f"[{{127.0.0.1 8080 {taken} tcp}}]")

    assert code == 0


@pytest.mark.parametrize("port", ["http", "0", "70000"])
def test_what_is_no_port_is_refused(check: Check, port: str) -> None:
    code, said = check(TARGET_PORT=port)

    assert code == 1
    assert f"is '{port}'; give a port from 1 to 65535" in said


# -- .env.example --


def test_the_example_shows_every_setting_with_its_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert {f"${{{name}:-{value}}}" for name, value in given.items()} == {
        "${" + part.split("}")[0] + "}" for part in text.split("${")[1:]
    }


# -- scripts/scale-compose --


@pytest.fixture(scope="session")
def scale_compose() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(
        "scale_compose", str(ROOT / "scripts/scale-compose")
    )
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = made  # dataclasses look their module up
    loader.exec_module(made)
    return made


def test_speed_up_and_efficiency_are_relative_to_the_first_count(
    scale_compose: ModuleType,
) -> None:
    lines = scale_compose.summarize(
        [(2, 40, 900, [300.0, 310.0, 290.0]), (4, 80, 900, [540.0, 564.0])]
    )

    assert [(one.throughput, one.speedup, one.efficiency) for one in lines] == [
        (300, 1, 1), (552, pytest.approx(1.84), pytest.approx(0.92)),
    ]  # fmt: skip
    assert lines[0].wall == 3
    assert scale_compose.table(lines).splitlines() == [
        "workers  slots  jobs   wall  jobs/s   spread  speed-up  efficiency",
        "      2     40   900  3.0 s     300  290–310     1.00×        1.00",
        "      4     80   900  1.6 s     552  540–564     1.84×        0.92",
    ]


@pytest.mark.parametrize("args", [["disk", "1"], ["io"], ["io", "0"], ["io", "1", "--rounds", "0"]])
def test_a_call_that_makes_no_sense_is_a_usage_error(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/scale-compose"), *args],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/scale-compose")
