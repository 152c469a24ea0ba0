"""A compose project of the tests' own, and what is asked of it from outside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
TARGET = "http://target:8080/"
WORKERS = ("io-worker", "cpu-worker")


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def wait_for(look: Callable[[], T], what: str, seconds: float = 60.0) -> T:
    """Look again and again (a look starts a process, which paces it) until the answer is true."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
    return answer


def _environment() -> dict[str, str]:
    """Without what would go before the tests' own .env file."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    settings = {line.partition("=")[0] for line in example if "=" in line}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in settings and not name.startswith(("COMPOSE_", "TWOLANE_"))
    }


class Project:
    """``docker compose`` with a project name and an .env file of its own."""

    def __init__(self, name: str, env_file: Path) -> None:
        self.name = name
        self._env_file = env_file
        self._environment = _environment()

    def set(self, **variables: object) -> None:
        """Write the .env file; it holds these and nothing else."""
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        self._env_file.write_text("".join(lines), encoding="utf-8")

    # -- docker ----------------------------------------------------------------------------------

    def docker(self, *args: str, seconds: float = 120, ok: Sequence[int] = (0,)) -> Ended:
        done = subprocess.run(
            ["docker", *args], cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        ended = Ended(done.returncode, done.stdout, done.stderr)
        assert not ok or ended.code in ok, f"docker {' '.join(args)}: {ended}"
        return ended

    def compose(self, *args: str, seconds: float = 120, ok: Sequence[int] = (0,)) -> Ended:
        return self.docker(
            "compose", "--project-name", self.name, "--env-file", str(self._env_file),
            "--ansi", "never", *args, seconds=seconds, ok=ok,
        )  # fmt: skip

    def up(self, *options: str, seconds: float = 300) -> None:
        """Bring the whole file up, and wait until all of it is healthy."""
        self.compose("up", "--detach", "--wait", *options, seconds=seconds)

    def containers(self, *services: str) -> list[str]:
        """The ids of the services' containers (all of them without any), stopped ones too."""
        return self.compose("ps", "--all", "--quiet", *services).out.split()

    def services(self) -> Counter[str]:
        """How many containers each service has, stopped ones too."""
        return Counter(self.compose("ps", "--all", "--format", "{{.Service}}").out.split())

    def look(self, *containers: str) -> list[Any]:
        found: list[Any] = json.loads(self.docker("inspect", *containers).out)
        return found

    def inspect(self, *services: str) -> list[Any]:
        return self.look(*self.containers(*services))

    def exit_codes(self, *services: str) -> dict[str, int]:
        """By container, of those that have stopped."""
        return {
            one["Name"]: one["State"]["ExitCode"]
            for one in self.inspect(*services)
            if not one["State"]["Running"]
        }

    def logs(self) -> str:
        return self.compose("logs", "--timestamps", "--no-color", ok=()).out

    def tear_down(self) -> None:
        self.compose(
            "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5",
            seconds=180, ok=(),
        )  # fmt: skip

    # -- twolane ---------------------------------------------------------------------------------

    def producer(self, *args: str, seconds: float = 120, ok: Sequence[int] = (0,)) -> Ended:
        """A twolane command in a container of the producer service; nothing else is started."""
        return self.compose(
            "run", "--rm", "--no-TTY", "--no-deps", "producer", *args, seconds=seconds, ok=ok
        )

    def status(self) -> Any:
        return json.loads(self.producer("status", "--json").out)

    def workers(self, lane: str) -> list[Any]:
        return [one for one in self.status()["workers"] if one["lane"] == lane]

    def run(self, name: str) -> Any:
        return json.loads(self.producer("runs", "show", name, "--json", ok=(0, 4)).out)["run"]

    def outcomes(self, name: str) -> list[Any]:
        lines = self.producer("runs", "collect", name).out.splitlines()
        return [json.loads(line) for line in lines]

    def done(self) -> int:
        """The jobs that the counters call done, on both lanes."""
        return sum(lane["counters"].get("done", 0) for lane in self.status()["lanes"])

    # -- Valkey ----------------------------------------------------------------------------------

    def valkey(self, *command: str) -> str:
        script = 'REDISCLI_AUTH="$(cat /run/passwords/valkey)" exec valkey-cli "$@"'
        return self.compose("exec", "-T", "valkey", "sh", "-c", script, "sh", *command).out.strip()

    def leased(self) -> list[str]:
        """The jobs that are marked as running."""
        return self.valkey("--scan", "--pattern", "arq:in-progress:*").split()

    def passwords(self) -> Iterator[str]:
        """Valkey's owner's, PostgreSQL's, then those that workers and producers have."""
        for service, name in (("valkey", "valkey"), ("postgres", "postgres")):
            yield self.compose("exec", "-T", service, "cat", f"/run/passwords/{name}").out
        yield self.compose("exec", "-T", "io-worker", "cat", "/run/passwords/valkey").out
        yield self.compose(
            "run", "--rm", "--no-TTY", "--no-deps", "--entrypoint", "cat", "producer",
            "/run/passwords/valkey",
        ).out  # fmt: skip
