"""What runs in each process of the pool: read a request, run the job, write the answer.

Purpose
    Run one job at a time, measured, for the worker at the other end of a socket.

Guarantees
    - The process leads a process group of its own, and the whole group ends with the worker, even
      while a job holds the GIL in C. When the worker's end of a pipe closes, the kernel kills the
      group on Linux; elsewhere a small guard process does.
    - Whatever a job raises, SystemExit and KeyboardInterrupt too, is an answer.
    - A job's prints go to the worker's standard error: standard output is for the commands' data.
    - No program that a job starts inherits the pool's descriptors.
    - A copy of the process that a job forked, and that returns from the job, ends there.

Assumptions
    - A job leaves process group and descriptors of the pool alone. If it does not, it fails with
      its process; a child that it moved to another group or session is no longer killed with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import multiprocessing
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from twolane import wire
from twolane.arguments import Signature
from twolane.errors import (
    BadArguments,
    ResultNotEncodable,
    ResultTooLarge,
    UnknownFunction,
    WrongLane,
)
from twolane.registry import Registry
from worker import frames
from worker.usage import Usage, resident_bytes

READ_BYTES = 64 * 1024

Answer = tuple[int, bytes]


def serve(
    sock: socket.socket,
    modules: Sequence[str],
    max_result_bytes: int,
    max_memory_bytes: int | None,
) -> None:
    """Load the jobs of ``modules``, then answer requests until the worker closes its end."""
    _settle_in(sock)
    try:
        signatures = {one.name: Signature(one) for one in Registry.load(modules)}
    except BaseException as error:  # a module may end Python: the worker is told why
        _send(sock, frames.BROKEN, _encoded_error(error))
        return
    gc.collect()
    gc.freeze()  # what is loaded now stays: no collection needs to look at it again
    usage = Usage()
    own_pid = os.getpid()
    with contextlib.suppress(OSError):  # the worker is gone, or a job closed the socket
        _send(sock, frames.READY, b"")
        while request := _receive(sock):
            kind, body = _perform(signatures, request, usage, max_result_bytes)
            if os.getpid() != own_pid:
                os._exit(0)
            del request  # a large one would count as memory that the job kept
            retire = max_memory_bytes is not None and resident_bytes(own_pid) > max_memory_bytes
            _send(sock, kind, body, usage, retire)
    _end_group()


def _settle_in(sock: socket.socket) -> None:
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    _end_with_the_worker(sock)
    # A terminal's Ctrl-C is the worker's business; SIGTERM ends a process at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # It was started as a daemon so that an exiting worker does not wait for it; jobs may
    # have child processes all the same.
    multiprocessing.current_process().daemon = False
    sock.setblocking(True)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that listed the directory
                os.set_inheritable(int(name), False)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr


def _end_with_the_worker(sock: socket.socket) -> None:
    worker = multiprocessing.parent_process()
    assert worker is not None, "runs only as a process of multiprocessing's"
    # A pipe whose one write end the worker holds; nothing is written to it any more.
    lifeline = worker.sentinel
    if not _killed_by_the_kernel(lifeline):
        _leave_a_guard(lifeline, sock)
    if select.select([lifeline], [], [], 0)[0]:
        _end_group()  # the worker ended before anything watched


def _killed_by_the_kernel(lifeline: int) -> bool:
    """Ask for SIGKILL instead of SIGIO, to the whole group, when the pipe closes (fcntl(2))."""
    if not hasattr(fcntl, "F_SETSIG"):
        return False
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    except OSError:
        return False
    return True


def _leave_a_guard(lifeline: int, sock: socket.socket) -> None:
    """A process of the same group that waits for the pipe to close, then kills the group.

    A thread could not while a job holds the GIL. It is not a child of this process: a job that
    waits for its children does not meet it.
    """
    between = os.fork()
    if between == 0:
        if os.fork() == 0:
            sock.close()
            select.select([lifeline], [], [])
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(0)
    os.waitpid(between, 0)


def _end_group() -> NoReturn:
    with contextlib.suppress(OSError):  # a job left the group, against the assumption
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _receive(sock: socket.socket) -> tuple[str, memoryview] | None:
    """The next request as name and encoded arguments; ``None`` when the worker closed its end."""
    data: bytes | bytearray = sock.recv(READ_BYTES)
    if not data:
        return None
    while len(data) < frames.REQUEST.size:
        more = sock.recv(READ_BYTES)
        if not more:
            return None
        data += more
    name_bytes, arguments_bytes = frames.REQUEST.unpack_from(data)
    start = frames.REQUEST.size
    total = start + name_bytes + arguments_bytes
    if len(data) < total:
        whole = bytearray(total)
        filled = len(data)
        whole[:filled] = data
        rest = memoryview(whole)
        while filled < total:
            count = sock.recv_into(rest[filled:])
            if not count:
                return None
            filled += count
        data = whole
    view = memoryview(data)
    return str(view[start : start + name_bytes], "utf-8"), view[start + name_bytes :]


def _perform(
    signatures: dict[str, Signature],
    request: tuple[str, memoryview],
    usage: Usage,
    max_result_bytes: int,
) -> Answer:
    name, encoded = request
    try:
        signature = signatures.get(name)
        if signature is None:
            known = ", ".join(sorted(signatures)) or "none"
            raise UnknownFunction(f"this worker has no job {name!r}; it has: {known}")
        if signature.job.is_coroutine:
            raise WrongLane(f"{name} is a coroutine function; it waits, on the IO lane")
        function = signature.job.function
        arguments, keywords = signature.receive(*wire.loads(encoded))
    except BaseException as error:  # decoding runs types of the job's own
        usage.start()
        usage.stop()
        return frames.ERROR, _encoded_error(error)
    usage.start()
    try:
        result = function(*arguments, **keywords)
    except BaseException as error:  # a job may raise anything, SystemExit too
        usage.stop()
        if isinstance(error, TypeError):
            try:
                signature.check_fit(arguments, keywords)
            except BadArguments as unfit:
                return frames.ERROR, _encoded_error(unfit)
        return frames.ERROR, _encoded_error(error)
    usage.stop()
    try:
        body = wire.dumps_readable(result)
    except BaseException as error:  # encoding runs code of the result's own
        return frames.ERROR, _encoded_error(ResultNotEncodable(f"{name} returned {error}"))
    if len(body) > max_result_bytes:
        message = f"{name} returned {len(body):,} bytes; the limit is {max_result_bytes:,}"
        return frames.ERROR, _encoded_error(ResultTooLarge(message))
    return frames.RESULT, body


def _encoded_error(error: BaseException) -> bytes:
    try:
        return wire.dumps(wire.error_record(error))
    except BaseException as broken:  # no memory left to tell, or an exception that cannot be told
        told = f"<telling of it raised {type(broken).__name__}>"
        return wire.dumps(wire.ErrorRecord(type(error).__name__, told))


def _send(
    sock: socket.socket, kind: int, body: bytes, usage: Usage | None = None, retire: bool = False
) -> None:
    used = (usage.run_seconds, usage.cpu_seconds, usage.peak_bytes) if usage else (0.0, 0.0, 0)
    header = frames.ANSWER.pack(kind, retire, *used, len(body))
    if len(body) <= frames.JOINED_BYTES:
        sock.sendall(header + body)
    else:
        sock.sendall(header)
        sock.sendall(body)
