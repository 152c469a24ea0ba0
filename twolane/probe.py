"""Asks a Valkey server on a Unix socket, without loading a client library."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from pathlib import Path
from typing import Final

PING_SECONDS: Final = 1.0  # a server that takes longer to answer is frozen, for our purposes
SHUTDOWN_SECONDS: Final = 10.0  # for a left-over server to flush its append-only file
POLL_SECONDS: Final = 0.02

_LINE: Final = re.compile(rb"\r\n")
_PROCESS_ID: Final = re.compile(rb"process_id:(\d+)\r\n")


def answers(path: Path) -> bool:
    """Whether the server says PONG within `PING_SECONDS`."""
    try:
        return _ask(path, b"PING", _LINE).startswith(b"+PONG")
    except OSError:
        return False


def listens(path: Path) -> bool:
    """Whether a process holds the socket, even one that is frozen and will not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PING_SECONDS)
        try:
            client.connect(str(path))
        except TimeoutError:
            return True
        except OSError as error:
            # EAGAIN: the backlog of a frozen server is full.
            return isinstance(error, BlockingIOError)
    return True


def process_id(path: Path) -> int:
    """The server's own process id, 0 when it does not say."""
    try:
        found = _PROCESS_ID.search(_ask(path, b"INFO server", _PROCESS_ID))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def shut_down(path: Path) -> bool:
    """End the server in order; return whether it is gone. True as well when there was none."""
    if not answers(path):
        return not listens(path)
    with contextlib.suppress(OSError):  # it hangs up instead of answering
        _ask(path, b"SHUTDOWN NOSAVE", _LINE)  # the append-only file is flushed all the same
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while listens(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _ask(path: Path, command: bytes, enough: re.Pattern[bytes]) -> bytes:
    """Send an inline command; return the answer as far as ``enough``, or until it hangs up."""
    deadline = time.monotonic() + PING_SECONDS
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PING_SECONDS)
        client.connect(str(path))
        client.sendall(command + b"\r\n")
        while not enough.search(answer):
            client.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = client.recv(65536)
            if not chunk:
                break
            answer += chunk
    return answer
