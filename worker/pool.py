"""The pool of processes that CPU jobs run in.

Purpose
    Run plain functions side by side, one a process, each of which can be killed by itself.

Guarantees
    - Every future that :meth:`Pool.run` returns settles: with a :class:`Ran`, an error, or
      cancelled. When it carries an error of ours, the job's process is gone.
    - A timeout, a cancellation or a crash costs the one job that runs in that process, and its
      child processes with it. The process is replaced at once.
    - A job whose process ended before it had read the whole request goes to another one, once.
    - No more than ``processes`` jobs run at a time, and they start in the order of submission.
    - The processes, and those that jobs start, end with this one, however it ends, even while a
      job holds the GIL in C.
    - Nothing is pickled on the way of a job, and nothing that a process sends is executed.

Assumptions
    - All methods are called on the thread of the event loop that :meth:`Pool.start` ran on. A
      thread of the pool's own starts the processes.
    - A main program that is a script keeps ``if __name__ == "__main__":`` before what it does:
      starting a process imports it.
    - Jobs leave the process group, and the descriptors, of their process alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

from twolane.errors import ProcessDied, TwolaneError
from worker.limits import MemoryWatch, TimeoutWatch
from worker.process import JobProcess, Plan, Ran, describe_exit

__all__ = ["Pool", "Ran", "Run"]

log = logging.getLogger(__name__)

MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
# Arbitrary: how long a process is waited for whose predecessor died before its jobs were loaded.
FIRST_BACKOFF_SECONDS: Final = 0.1
LAST_BACKOFF_SECONDS: Final = 5.0


class Run(asyncio.Future[Ran]):
    """One job in the pool. Cancelling it kills its process, or takes it out of the queue.

    ``on_requeued`` is called where it waits again, since its process had ended before it began.
    """

    def __init__(
        self,
        pool: Pool,
        name: str,
        arguments: bytes,
        timeout: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self.pool = pool
        self.name = name
        self.arguments = arguments
        self.timeout = timeout
        self.deadline = float("inf")
        self.process: JobProcess | None = None
        self.requeued = False
        self.on_requeued: Callable[[], None] | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self.pool._cancelled(self)
        return cancelled


class Pool:
    """Runs the jobs of some modules in processes of their own.

    Args:
        processes: how many jobs run at a time, see :func:`twolane.cores.usable_cores`.
        modules: dotted names of the modules that define the jobs.
        max_memory_bytes: resident memory of one process. During a job it is killed for more; after
            a job it is replaced. Child processes of a job are not counted. Default: no limit.
        max_jobs_per_process: replace a process after so many jobs. Default: never.
        max_result_bytes: the longest encoded result. Default 64 MiB.
    """

    def __init__(
        self,
        processes: int,
        modules: Sequence[str],
        *,
        max_memory_bytes: int | None = None,
        max_jobs_per_process: int | None = None,
        max_result_bytes: int = MAX_RESULT_BYTES,
    ) -> None:
        if processes < 1:
            raise ValueError(f"processes={processes!r}; a pool has at least 1")
        self.size = processes
        self.restarts = 0
        self._plan = Plan(tuple(modules), max_result_bytes, max_memory_bytes)
        self._max_jobs = max_jobs_per_process or float("inf")
        self._busy = 0
        self._waiting: deque[Run] = deque()
        self._idle: list[JobProcess] = []
        # Those that hold a place; one that is to end gives its place up first.
        self._members: set[JobProcess] = set()
        # Those of them whose predecessors could not start.
        self._doubtful: set[JobProcess] = set()
        self.on_recovery: Callable[[], None] = lambda: None
        self._all: dict[JobProcess, asyncio.Task[None]] = {}
        self._opened: asyncio.Future[None] | None = None
        self._stopping = False
        self._memory: MemoryWatch | None = None

    @property
    def busy(self) -> int:
        """How many jobs run now."""
        return self._busy

    @property
    def missing(self) -> int:
        """How many processes cannot be started at present; ``on_recovery`` tells when one was."""
        return len(self._doubtful)

    @property
    def pids(self) -> dict[int, bool]:
        """The processes that live, and whether each runs a job."""
        return {one.pid: one.run is not None for one in self._all if one.pid}

    async def start(self) -> None:
        """Start all processes and wait until each has loaded its jobs.

        Raises:
            JobDefinitionError: a module cannot be loaded.
            ProcessDied: a process ended while it loaded them.
            TwolaneError: a process cannot be started.
        """
        if self._opened is not None:
            raise RuntimeError("this pool was started before; make another one")
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="twolane-pool")
        self._opened = self._loop.create_future()
        self._timeouts = TimeoutWatch(self._all, self._lose)
        if self._plan.max_memory_bytes is not None:
            self._memory = MemoryWatch(self._all, self._plan.max_memory_bytes, self._lose)
        for _ in range(self.size):
            self._hire()
        try:
            await self._opened
        except BaseException:  # a cancellation too leaves no process behind
            await self.stop()
            raise

    async def stop(self) -> None:
        """Kill what runs, fail what waits, and return when no process is left.

        The futures of both get :class:`ProcessDied`. Stopping twice does no harm.
        """
        self._stopping = True
        if self._opened is not None:
            self._timeouts.stop()
        if self._memory is not None:
            self._memory.stop()
        while self._waiting:
            _fail(self._waiting.popleft(), ProcessDied("the pool was stopped before the job began"))
        for process, tender in list(self._all.items()):
            if process.pid:
                process.kill(ProcessDied("killed: the pool was stopped in the middle of the job"))
            elif not process.launching:
                tender.cancel()
        if self._all:
            await asyncio.wait(list(self._all.values()))
        if self._opened is not None:
            self._executor.shutdown()
            self._opened.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def run(self, name: str, arguments: bytes, timeout: float | None = None) -> Run:
        """Run a job in the next free process; returns at once.

        Args:
            name: the job's.
            arguments: the encoding of ``[args, kwargs]`` (:func:`twolane.wire.dumps`).
            timeout: seconds from its start in a process, not from this call. Default: none.

        The future fails with:
            JobTimeout: it ran longer than ``timeout``.
            ProcessDied: its process ended: a signal, an exit, the memory limit, :meth:`stop`.

        What the job itself raises is part of its :class:`Ran`.
        """
        if self._opened is None or self._stopping:
            raise RuntimeError("this pool is not running; start() it first")
        run = Run(self, name, arguments, timeout, self._loop)
        if self._idle and self._busy < self.size:
            self._dispatch(self._idle.pop(), run)
        else:
            self._waiting.append(run)
        return run

    def _dispatch(self, process: JobProcess, run: Run) -> None:
        process.run = run
        run.process = process
        self._busy += 1
        if run.timeout is not None:
            run.deadline = self._loop.time() + run.timeout
            if run.deadline < self._timeouts.next:
                self._timeouts.set(run.deadline)
        process.jobs += 1
        if not process.send(run.name, run.arguments):
            process.unread = True
            self._lose(process)
        elif process.jobs >= self._max_jobs:
            self._replace(process)  # its successor loads while it runs its last job

    def _answered(self, process: JobProcess, ran: Ran, retire: bool) -> None:
        run = process.run
        assert run is not None, "the process checks that it was asked"
        process.run = None
        self._busy -= 1
        if retire or process not in self._members:
            self._lose(process)
            self._pump()
        elif self._waiting:
            self._dispatch(process, self._waiting.popleft())
        else:
            self._idle.append(process)
        if not run.done():
            run.set_result(ran)

    def _pump(self) -> None:
        while self._waiting and self._idle and self._busy < self.size:
            self._dispatch(self._idle.pop(), self._waiting.popleft())

    def _cancelled(self, run: Run) -> None:
        if run.process is not None:
            self._lose(run.process)
        else:
            with contextlib.suppress(ValueError):
                self._waiting.remove(run)

    # -- Processes: one task tends each, from its start to its end --

    def _hire(self, delay: float = 0.0) -> None:
        process = JobProcess(self._plan, self._welcome, self._answered)
        self._members.add(process)
        if delay:
            self._doubtful.add(process)
        self._all[process] = self._loop.create_task(self._tend(process, delay))

    def _welcome(self, process: JobProcess) -> None:
        self._idle.append(process)
        assert self._opened is not None, "only a started pool has processes"
        if not self._opened.done() and all(one.ready for one in self._members):
            self._opened.set_result(None)
        self._pump()
        if process in self._doubtful:
            self._doubtful.remove(process)
            self.on_recovery()

    async def _tend(self, process: JobProcess, delay: float) -> None:
        failure: TwolaneError | None = None
        try:
            if delay:
                await asyncio.sleep(delay)
            process.launching = True
            await process.launch(self._executor)
            if self._stopping:
                process.kill()
            await process.ended
            if process.ready:
                self._replace(process)
            status = await process.bury(self._executor)
            if not process.ready:
                how = f"a process of the pool {_ended(status)} while it loaded the jobs"
                failure = process.broken or ProcessDied(how)
        except Exception as error:  # of multiprocessing's: nobody may wait for this process in vain
            status = 255
            failure = TwolaneError(f"a process of the pool cannot be started: {error}")
        finally:
            process.close()
            del self._all[process]
        if failure is not None:
            self._start_failed(process, failure, delay)
        self._replace(process)
        self._settle(process, status)
        self._pump()

    def _start_failed(self, process: JobProcess, failure: TwolaneError, delay: float) -> None:
        assert self._opened is not None, "only a started pool has processes"
        if self._stopping or process not in self._members:
            return
        if not self._opened.done():
            self._opened.set_exception(failure)
            self._stopping = True
            return
        delay = min(max(2 * delay, FIRST_BACKOFF_SECONDS), LAST_BACKOFF_SECONDS)
        log.error("%s; trying again in %.1f s", failure, delay)
        self._replace(process, delay)

    def _settle(self, process: JobProcess, status: int) -> None:
        """What becomes of the job of a process that is gone."""
        run = process.run
        if run is None:
            return
        process.run = None
        self._busy -= 1
        if process.verdict is not None:
            _fail(run, process.verdict)
        elif process.unread and not run.requeued and not run.done() and not self._stopping:
            run.requeued = True
            run.process = None
            run.deadline = float("inf")
            self._waiting.appendleft(run)
            if run.on_requeued is not None:
                run.on_requeued()
        else:
            _fail(run, ProcessDied(f"its process {_ended(status)} in the middle of the job"))

    def _replace(self, process: JobProcess, delay: float = 0.0) -> None:
        """Give the process's place to a new one; it may still run the job that it has."""
        if process not in self._members:
            return
        self._members.remove(process)
        self._doubtful.discard(process)
        with contextlib.suppress(ValueError):
            self._idle.remove(process)
        if not self._stopping:
            self.restarts += 1
            self._hire(delay)

    def _lose(self, process: JobProcess, verdict: TwolaneError | None = None) -> None:
        """Kill the process, and start another one without waiting for the first one's end."""
        process.kill(verdict)
        self._replace(process)


def _fail(run: Run, error: TwolaneError) -> None:
    if not run.done():
        run.set_exception(error)


def _ended(status: int) -> str:
    return ("was " if status < 0 else "") + describe_exit(status)
