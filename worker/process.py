"""One process of the pool, from its start to its burial, as the event loop sees it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Final

import msgspec

from twolane.errors import JobDefinitionError, ProcessDied, TwolaneError
from twolane.wire import ErrorRecord
from worker import child, frames

if TYPE_CHECKING:
    from worker.pool import Run

# More than a socket pair holds at once (about 208 KiB on Linux): a callback reads what is there.
_READ_BYTES: Final = 256 * 1024

# Starting a process and reading its exit status touch state that multiprocessing shares between
# all processes of a program, so they happen one at a time, in whichever thread.
_multiprocessing_lock = threading.Lock()
_errors = msgspec.msgpack.Decoder(ErrorRecord)


@dataclass(frozen=True, slots=True)
class Plan:
    """What each process of a pool is told when it starts."""

    modules: tuple[str, ...]
    max_result_bytes: int
    max_memory_bytes: int | None


class Ran(msgspec.Struct, frozen=True, gc=False):
    """How a job ended. ``result`` is the return value's MessagePack, empty where it failed.

    ``error`` is what the job raised, or why its result could not be sent; ``None`` where it
    succeeded. Seconds and bytes are those of :class:`worker.usage.Usage`.
    """

    ok: bool
    result: bytes
    error: ErrorRecord | None
    run_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    pid: int


class JobProcess:
    """A process that runs one job at a time.

    ``on_ready(process)`` is called once its jobs are loaded, ``on_answer(process, ran, retire)``
    for each job that ended in it; ``retire`` says that it holds too much memory to go on.
    """

    __slots__ = (
        "_loop", "_on_answer", "_on_ready", "_plan", "_process", "_reader", "_reading",
        "_sentinel", "_sock", "_unsent", "broken", "ended", "jobs", "launching", "leaving",
        "pid", "ready", "run", "unread", "verdict",
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        on_ready: Callable[[JobProcess], None],
        on_answer: Callable[[JobProcess, Ran, bool], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._on_ready = on_ready
        self._on_answer = on_answer
        self._process: BaseProcess | None = None
        self._sock: socket.socket | None = None
        self._sentinel = -1
        self._reading = False
        self._reader = frames.AnswerReader(plan.max_result_bytes)
        self._unsent: memoryview | None = None
        # Done when the process is gone, and its group with it.
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.pid = 0
        self.launching = False
        # It is being killed, or is dead: it takes no more jobs.
        self.leaving = False
        self.ready = False
        self.jobs = 0
        self.run: Run | None = None
        # Why it is being killed, for the job that runs in it.
        self.verdict: TwolaneError | None = None
        # Why its jobs cannot be loaded.
        self.broken: TwolaneError | None = None
        # It ended without having read the whole of its last request: that job never began.
        self.unread = False

    async def launch(self, executor: Executor) -> None:
        """Start the process; returns before its jobs are loaded.

        Raises:
            OSError: no process, or no descriptor, is to be had.
        """
        process, sock = await self._loop.run_in_executor(executor, _start, self._plan)
        assert process.pid is not None, "it has been started"
        self._process, self._sock = process, sock
        self.pid, self._sentinel = process.pid, process.sentinel
        self._reading = True
        self._loop.add_reader(sock.fileno(), self._readable)
        # A child of the job's may keep the socket open: its end alone would not tell.
        self._loop.add_reader(self._sentinel, self._sentinel_readable)

    async def bury(self, executor: Executor) -> int:
        """Release what is left of an ended process; its exit status, -N for signal N."""
        assert self._process is not None, "only what was launched ends"
        return await self._loop.run_in_executor(executor, _bury, self._process)

    def close(self) -> None:
        """Kill the process if it still runs, and close what the loop watches."""
        self.kill()
        if self._sentinel >= 0 and not self.ended.done():
            self._loop.remove_reader(self._sentinel)
        self._stop_reading()
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    def send(self, name: str, arguments: bytes) -> bool:
        """Write a request, as much as fits now and the rest as it is read.

        False if the process is gone already: then the job has not begun.
        """
        sock = self._sock
        if sock is None or self.leaving:
            return False
        encoded_name = name.encode()
        head = frames.REQUEST.pack(len(encoded_name), len(arguments)) + encoded_name
        total = len(head) + len(arguments)
        try:
            if total <= frames.JOINED_BYTES:
                sent = sock.send(head + arguments)
            else:
                sent = sock.sendmsg((head, arguments))
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < total:
            if sent < len(head):
                self._unsent = memoryview(head + arguments)[sent:]
            else:
                self._unsent = memoryview(arguments)[sent - len(head) :]
            self._loop.add_writer(sock.fileno(), self._writable)
        return True

    def kill(self, verdict: TwolaneError | None = None) -> None:
        """Kill the process and its group; ``verdict`` is what becomes of the job that it runs.

        An answer that has not been read by now counts no more.
        """
        if self.pid == 0 or self.ended.done():
            return
        self.leaving = True
        if self.verdict is None:
            self.verdict = verdict
        self._stop_reading()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:  # it has not come so far as to have a group; macOS: EPERM for a zombie's
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)

    def _writable(self) -> None:
        assert self._sock is not None, "watched only while it is open"
        assert self._unsent is not None, "watched only while something is unsent"
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it has ended: the reading side tells
            self.unread = True
            self._stop_writing()
        if not self._unsent:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._unsent is not None and self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
        self._unsent = None

    def _stop_reading(self) -> None:
        if self._reading and self._sock is not None:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())
        if self._sock is not None:
            self._stop_writing()

    def _sentinel_readable(self) -> None:
        self._loop.remove_reader(self._sentinel)
        self.leaving = True
        # It may have answered first, and ended then.
        while self._reading and self._readable():
            pass
        # What it leaves behind in its group. The number cannot have passed to another group: as
        # long as one member lives it is not free, and numbers are given out in a circle.
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self.ended.set_result(None)

    def _readable(self) -> bool:
        """Read once; False if there was nothing to read."""
        assert self._sock is not None, "watched only while it is open"
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            # Linux resets a socket whose peer closed it with something unread (unix(7)).
            self.unread |= isinstance(error, ConnectionResetError)
            data = b""
        if not data:
            self.unread |= self._unsent is not None
            self.kill()  # without its socket it is of no use, if it lives at all
            return False
        try:
            answer = self._reader.feed(data)
            if answer is not None:
                self._take(*answer)
        except (frames.FrameError, msgspec.MsgspecError, ValueError) as error:
            self.kill(ProcessDied(f"killed: it sent what is no answer: {error}"))
        return True

    def _take(self, header: frames.Header, body: bytes) -> None:
        kind, retire, run_seconds, cpu_seconds, peak_bytes, _ = header
        if kind == frames.READY and not self.ready:
            self.ready = True
            self._on_ready(self)
        elif kind == frames.BROKEN and not self.ready:
            self.broken = _load_error(_errors.decode(body))
            self.kill()
        elif self.run is None or kind not in (frames.RESULT, frames.ERROR):
            raise frames.FrameError(f"kind {kind}, unasked")
        elif kind == frames.RESULT:
            ran = Ran(True, body, None, run_seconds, cpu_seconds, peak_bytes, self.pid)
            self._on_answer(self, ran, retire)
        else:
            error = _errors.decode(body)
            ran = Ran(False, b"", error, run_seconds, cpu_seconds, peak_bytes, self.pid)
            self._on_answer(self, ran, retire)


def describe_exit(status: int) -> str:
    """How a process ended that nobody of the pool killed: its signal, or its exit status."""
    if status == 255:
        # What multiprocessing answers, too, when the process that it starts others from was killed.
        return "exited with status 255, or unseen: the process that starts the others died"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        return f"killed by signal {-status}"
    if -status == signal.SIGKILL:
        return f"killed by {name} (from outside, or by the kernel when memory ran out)"
    return f"killed by {name} ({(signal.strsignal(-status) or 'no description').lower()})"


def _start(plan: Plan) -> tuple[BaseProcess, socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        process = _context().Process(
            target=child.serve,
            name="twolane-jobs",
            args=(theirs, plan.modules, plan.max_result_bytes, plan.max_memory_bytes),
            daemon=True,
        )
        with _multiprocessing_lock:
            process.start()
    except BaseException:  # a signal's too leaves no socket behind
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Without effect if the program's forkserver runs already; then processes import it themselves.
    context.set_forkserver_preload(["worker.nursery"])
    return context


def _bury(process: BaseProcess) -> int:
    with _multiprocessing_lock:
        process.join()
        status = process.exitcode
        process.close()
    assert status is not None, "it has been joined"
    return status


def _load_error(record: ErrorRecord) -> TwolaneError:
    if record.type == JobDefinitionError.__name__:
        return JobDefinitionError(record.message)
    return JobDefinitionError(f"the jobs cannot be loaded: {record.type}: {record.message}")
