"""Jobs that behave, and misbehave, for the tests of the pool."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from twolane import job
from worker import frames

_kept: list[bytearray] = []


def note(path: str, *pids: int) -> None:
    """Write process ids so that a reader sees all of them or no file."""
    unfinished = Path(f"{path}.{os.getpid()}")
    unfinished.write_text(" ".join(map(str, pids)))
    unfinished.rename(path)


@job
def add(left: int, right: int = 1) -> int:
    return left + right


@job
def echo(value: Any) -> Any:
    return value


@job
def weekday(day: date) -> int:
    return day.weekday()


@job
def own_pid() -> int:
    return os.getpid()


@job
def own_group() -> list[int]:
    return [os.getpid(), os.getpgrp()]


@job
async def waits() -> None:
    return None


@job
def wait_for_file(started: str, awaited: str) -> int:
    note(started, os.getpid())
    while not Path(awaited).exists():
        time.sleep(0.005)
    return os.getpid()


@job
def spin(started: str) -> int:
    note(started, os.getpid())
    return sum(range(10**12))  # one C loop that never lets go of the GIL


@job
def spin_with_children(started: str) -> int:
    """Two child processes, one of them a copy that holds every descriptor of this process."""
    program = subprocess.Popen(["sleep", "60"])
    copy = os.fork()
    if copy == 0:
        time.sleep(60)
        os._exit(0)
    note(started, os.getpid(), program.pid, copy)
    return sum(range(10**12))


@job
def die_leaving_a_program(started: str) -> None:
    program = subprocess.Popen(["sleep", "60"])
    note(started, os.getpid(), program.pid)
    os.kill(os.getpid(), signal.SIGSEGV)


@job
def die_leaving_a_copy(started: str) -> None:
    """The copy holds every descriptor of this process: no end of file tells of its death."""
    copy = os.fork()
    if copy == 0:
        time.sleep(60)
        os._exit(0)
    note(started, os.getpid(), copy)
    os.kill(os.getpid(), signal.SIGSEGV)


@job
def fork_and_return() -> str:
    return "copy" if os.fork() == 0 else "original"


@job
def fail(message: str) -> None:
    raise ValueError(message)


@job
def exit_python() -> None:
    sys.exit("enough")


@job
def interrupt() -> None:
    raise KeyboardInterrupt


@job
def exhaust_memory() -> int:
    return len(bytearray(2**62))


@job
def segfault() -> None:
    ctypes.string_at(0)


@job
def leave(status: int) -> None:
    os._exit(status)


def _own_socket() -> int:
    """The descriptor on which this process answers the pool."""
    for name in os.listdir("/dev/fd"):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(int(name)).st_mode)
        except OSError:
            continue
        if is_socket:
            return int(name)
    raise LookupError


@job
def die_in_the_middle_of_a_result() -> None:
    """Write what serve() would, a result of 4 MB, but end after the first quarter."""
    sock = _own_socket()
    os.write(sock, frames.ANSWER.pack(frames.RESULT, False, 0.0, 0.0, 0, 4 << 20))
    left = 1 << 20
    while left:
        left -= os.write(sock, bytes(min(left, 64 << 10)))
    os.kill(os.getpid(), signal.SIGKILL)


@job
def answer_with(kind: int, length: int, body: bytes, awaited: str) -> None:
    """Write to the pool what only serve() should; return when the awaited file is there."""
    os.write(_own_socket(), frames.ANSWER.pack(kind, False, 0.0, 0.0, 0, length) + body)
    while not Path(awaited).exists():
        time.sleep(0.005)


@job
def unencodable() -> object:
    return object()


@dataclasses.dataclass(frozen=True)
class Square:
    column: str
    row: int


@job
def unreadable() -> dict[Square, str]:
    """An object as a mapping's key: encoded, and not decoded."""
    return {Square("e", 4): "pawn"}


@job
def zeros(size: int) -> bytes:
    return bytes(size)


@job
def keep(megabytes: int) -> int:
    _kept.append(bytearray(os.urandom(1 << 20) * megabytes))
    return os.getpid()


@job
def swell(megabytes: int) -> None:
    _kept.append(bytearray(os.urandom(1 << 20) * megabytes))
    time.sleep(60)


@job
def touch(megabytes: int) -> int:
    return len(bytearray(os.urandom(1 << 20) * megabytes))


@job
def burn(seconds: float, in_a_child: bool = False) -> None:
    if in_a_child:
        copy = os.fork()
        if copy:
            os.waitpid(copy, 0)
            return
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    if in_a_child:
        os._exit(0)


@job
def talk() -> None:
    print("said with print", flush=True)
    os.write(1, b"said to descriptor 1\n")
    subprocess.run(["echo", "said by a child"], check=True)


@job
def inherited_descriptors() -> list[int]:
    listed = subprocess.run(["ls", "/dev/fd"], close_fds=False, capture_output=True, check=True)
    return [int(name) for name in listed.stdout.split()]
