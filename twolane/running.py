"""The user's own server, as other processes find it, and as only one process may start it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from twolane import private_dir, probe
from twolane.errors import BrokerError

LOCK_SECONDS: Final = 5.0  # a server whose owner has just died needs about one to be gone
POLL_SECONDS: Final = 0.05
DATA: Final = "valkey"  # in TWOLANE_HOME
STATE: Final = "state.json"  # in DATA


class Running(NamedTuple):
    """What ``state.json`` says of a server: ``owner`` is the process that runs it."""

    socket: Path
    pid: int
    owner: int
    started: float  # Unix time, seconds

    @property
    def url(self) -> str:
        return url(self.socket)


def find(environ: Mapping[str, str] = os.environ) -> str | None:
    """The URL of this user's running server, or None. Takes a second at most."""
    running = find_running(environ)
    return None if running is None else running.url


def find_running(environ: Mapping[str, str] = os.environ) -> Running | None:
    """This user's server, if one answers now.

    A stale socket, a dead server's state file and a frozen server all count as none. Raises
    `BrokerError` when a directory on the way is not this user's alone.
    """
    data_dir = private_dir.home(environ.get("TWOLANE_HOME")) / DATA
    try:
        private_dir.check(data_dir)
        running = read(data_dir)
        if running is None:
            return None
        private_dir.check(running.socket.parent)
    except OSError:
        return None
    return running if probe.answers(running.socket) else None


def url(socket: Path) -> str:
    """The broker URL of a Unix socket."""
    return f"unix://{quote(str(socket))}"


def read(data_dir: Path) -> Running | None:
    """What the state file says, true or not; None when there is none to be read."""
    try:
        state = json.loads((data_dir / STATE).read_bytes())
        return Running(Path(state["socket"]), state["pid"], state["owner"], state["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(data_dir: Path, state: Running) -> None:
    """Replace the state file at once: a reader sees the old or the new one, whole."""
    unfinished = data_dir / f"{STATE}.new"
    unfinished.write_text(json.dumps({**state._asdict(), "socket": str(state.socket)}))
    unfinished.replace(data_dir / STATE)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lock(data_dir: Path) -> int:
    """Take the data directory for one server; return the descriptor that holds it.

    Waits `LOCK_SECONDS` for a server that is just ending. Raises `BrokerError` at once when one
    answers.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(data_dir / "lock", flags, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            state = read(data_dir)
            # A server whose owner is gone still answers for the moment in which it is being ended.
            if state is not None and _is_alive(state.owner) and probe.answers(state.socket):
                raise BrokerError(
                    f"already running, pid {state.owner}; use it, or stop it with Ctrl-C there"
                )
            if time.monotonic() > deadline:
                who = f" (pid {state.owner})" if state else ""
                raise BrokerError(
                    f"another `twolane up`{who} holds {data_dir}, and its server does not answer; "
                    "stop that one first"
                )
            time.sleep(POLL_SECONDS)
    except BaseException:  # Ctrl-C too gives the lock back
        os.close(descriptor)
        raise


def end_left_over(data_dir: Path) -> None:
    """End the server of an earlier start whose owner and keeper were both killed.

    To be called with the lock held. Raises `BrokerError` when that server is frozen.
    """
    state = read(data_dir)
    if state is not None and not probe.shut_down(state.socket):
        raise BrokerError(
            f"the server of an earlier `twolane up` (pid {state.pid}) still has {data_dir} and "
            f"does not answer; end it with `kill -KILL {state.pid}`"
        )
