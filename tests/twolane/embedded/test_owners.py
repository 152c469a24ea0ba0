"""One owner at a time; what becomes of the server when its owner or its keeper is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.twolane.embedded.observing import get, is_gone, put, wait_until
from twolane import embedded
from twolane.embedded import Embedded
from twolane.errors import BrokerError

OWNER = """
import os, signal, sys
from twolane.embedded import Embedded
from twolane.errors import BrokerError

# Not by print: it may be in the middle of another one.
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted" + bytes([10])))
print("ready", flush=True)
sys.stdin.readline()
server = Embedded.private() if sys.argv[1] == "private" else Embedded.for_user("always")
try:
    server.start()
except BrokerError as error:
    print("refused", error, flush=True)
else:
    print("up", server.pid, server.url, flush=True)
sys.stdin.read()
server.stop()
"""


@contextlib.contextmanager
def owner(kind: str = "user") -> Iterator[subprocess.Popen[str]]:
    """Another process that starts a server when it is told to, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.communicate()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@contextlib.contextmanager
def owner_at_work(kind: str = "user") -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """An owner whose server is up: its process, and the server's process id and URL."""
    with owner(kind) as process:
        tell(process)
        _, pid, url = hear(process)
        yield process, int(pid), url.strip()


def hear(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split(maxsplit=2)


def test_a_second_server_of_the_user_is_refused(server: Embedded, environ: dict[str, str]) -> None:
    server.start()

    with pytest.raises(BrokerError, match=f"already running, pid {os.getpid()}; use it"):
        Embedded.for_user(environ=environ).start()

    assert server.alive()


def test_of_two_simultaneous_starts_one_wins(environ: dict[str, str]) -> None:
    with owner() as first, owner() as second:
        tell(first)
        tell(second)
        answers = [hear(first), hear(second)]

        assert sorted(answer[0] for answer in answers) == ["refused", "up"]
        (refusal,) = (answer for answer in answers if answer[0] == "refused")
        assert refusal[1] == "already"
        assert embedded.find(environ) is not None


def test_a_killed_owner_takes_its_server_along_and_the_data_stays(
    server: Embedded, environ: dict[str, str]
) -> None:
    with owner_at_work() as (process, pid, url):
        put(url, "kept")

        process.kill()
        process.wait()
        wait_until(lambda: is_gone(pid))

    assert embedded.find(environ) is None
    server.start()
    assert get(server.url) == b"kept"


def test_a_private_servers_directory_goes_with_its_killed_owner() -> None:
    with owner_at_work("private") as (process, pid, url):
        directory = Path(url.removeprefix("unix://")).parent

        process.kill()
        process.wait()

        wait_until(lambda: is_gone(pid))
        wait_until(lambda: not directory.exists())


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(environ: dict[str, str]) -> None:
    with owner_at_work() as (process, pid, url):
        os.killpg(process.pid, signal.SIGINT)

        assert hear(process) == ["interrupted"]
        assert os.getsid(pid) != os.getsid(process.pid)
        assert embedded.find(environ) == url


def test_a_server_whose_keeper_was_killed_is_still_stopped(server: Embedded) -> None:
    server.start()
    keeper = psutil.Process(server.pid).ppid()

    os.kill(keeper, signal.SIGKILL)
    server.stop()

    wait_until(lambda: is_gone(server.pid))


def test_a_server_left_over_by_owner_and_keeper_is_ended_by_the_next_start(
    server: Embedded, environ: dict[str, str]
) -> None:
    with owner_at_work() as (process, pid, url):
        put(url, "kept")
        keeper = psutil.Process(pid).ppid()
        os.kill(keeper, signal.SIGKILL)
        process.kill()
        process.wait()
        assert embedded.find(environ) == url

        server.start()

        assert server.pid != pid
        assert get(server.url) == b"kept"
        wait_until(lambda: is_gone(pid))
