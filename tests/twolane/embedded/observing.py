"""What the tests ask of an embedded server and of its processes."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from twolane import broker


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def put(url: str, value: str) -> None:
    with broker.connect_blocking(url, 5) as client:
        client.set("key", value)


def get(url: str) -> bytes | None:
    with broker.connect_blocking(url, 5) as client:
        value = client.get("key")
    assert value is None or isinstance(value, bytes)
    return value


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
