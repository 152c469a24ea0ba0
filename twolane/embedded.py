"""A real Valkey server on a Unix socket, which lives as long as the process that started it.

``twolane up`` runs the user's own (``Embedded.for_user()``): its data stays. ``demo``,
``compare``, ``scale`` and the tests run private ones (``Embedded.private()``): nothing stays.
Neither opens a TCP port. The server's parent is a keeper process; ``keeper.py`` says what happens
when the owner is killed, and why Ctrl-C does not reach the server.

A later command finds the user's server by ``state.json`` in its data directory, which says where
the socket is; that a server runs is believed only when it answers a PING.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from twolane import keeper, private_dir, probe, running
from twolane.errors import BrokerError
from twolane.running import Running, find, find_running

if TYPE_CHECKING:
    import subprocess

__all__ = ["Embedded", "Fsync", "Running", "find", "find_running"]

Fsync = Literal["always", "everysec"]

SOCKET: Final = "valkey.sock"
KEEPER_SECONDS: Final = 5.0  # for the keeper to end, after its server has

_COMMON: Final[dict[str, Any]] = {
    "save": "",
    "protected-mode": "yes",
    "maxmemory-policy": "noeviction",
    "aof-load-truncated": "yes",  # a crash may cut the last command short: load what is whole
}


class Embedded:
    """One server: made by `private` or `for_user`, running between `start` and `stop`.

    A context manager. `start` blocks for some 0.2 seconds, `stop` for as long as the server needs
    to flush its append-only file; call them from a thread where a loop must not wait. The server
    also ends when this process does, however it ends. ``pid`` is the server's own.
    """

    def __init__(
        self,
        home: Path | None,
        config: Mapping[str, Any],
        *,
        runtime: str = "",
        start_seconds: float,
        stop_seconds: float,
    ) -> None:
        self._home = home
        self._config = {**_COMMON, **config}
        self._runtime = runtime
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._keeper: subprocess.Popen[bytes] | None = None
        self._data_dir = Path()
        self._socket = Path()
        self.pid = 0

    @classmethod
    def private(cls, appendfsync: Fsync | None = None) -> Self:
        """A server of its own in a temporary directory, which is gone with it.

        ``appendfsync`` turns on the append-only file, to measure what durability costs; by
        default nothing is written to disk.
        """
        config = {} if appendfsync is None else {"appendonly": "yes", "appendfsync": appendfsync}
        return cls(None, config, start_seconds=20, stop_seconds=3)

    @classmethod
    def for_user(
        cls, appendfsync: Fsync = "everysec", environ: Mapping[str, str] = os.environ
    ) -> Self:
        """The one server of this user, its data in ``$TWOLANE_HOME/valkey``.

        Without ``TWOLANE_HOME``, the platform's data directory for ``twolane``. The append-only
        file is flushed to disk every second, or with ``always`` before each reply.
        """
        config = {"appendonly": "yes", "appendfsync": appendfsync}
        home = private_dir.home(environ.get("TWOLANE_HOME"))
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        # A long append-only file takes its time to load, and to flush.
        return cls(home, config, runtime=runtime, start_seconds=60, stop_seconds=30)

    @property
    def url(self) -> str:
        """``unix:///…`` while it runs. Raises `BrokerError` before and after."""
        if self._keeper is None:
            raise BrokerError("the embedded Valkey server is not running; start it first")
        return running.url(self._socket)

    def start(self) -> None:
        """Start the server; return when it answers. Idempotent.

        Raises `BrokerError` when the server does not come up (with the end of its log), when this
        user's server already runs, or when a directory is not this user's alone.
        """
        if self._keeper is not None:
            return
        if self._home is None:
            self._start_private()
        else:
            self._start_for_user(self._home)

    def stop(self) -> None:
        """End the server in order: SIGTERM, and wait until its data is on disk. Idempotent."""
        import subprocess

        process, self._keeper = self._keeper, None
        if process is None:
            return
        # First the state: once the keeper is gone, the file may be another server's.
        if self._home is not None:
            (self._data_dir / running.STATE).unlink(missing_ok=True)
        _let_go(process)
        try:
            code = process.wait(self._stop_seconds + KEEPER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:  # the keeper itself was killed, and its server may live on
            probe.shut_down(self._socket)
            self._remove_if_private(self._data_dir)

    def alive(self) -> bool:
        """Whether the server answers within a second."""
        return self._keeper is not None and probe.answers(self._socket)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_private(self) -> None:
        import tempfile

        root = private_dir.for_temporary(SOCKET)
        directory = Path(tempfile.mkdtemp(prefix="twolane-", dir=root))
        self._run(directory, directory / SOCKET)

    def _start_for_user(self, home: Path) -> None:
        data_dir = home / running.DATA
        private_dir.make(data_dir)
        lock = running.lock(data_dir)
        try:
            running.end_left_over(data_dir)
            directory = private_dir.for_sockets(data_dir, SOCKET, self._runtime)
            socket = directory / SOCKET
            self._run(data_dir, socket, lock)
        finally:
            os.close(lock)  # the keeper holds it now
        running.write(data_dir, Running(socket, self.pid, os.getpid(), time.time()))

    def _run(self, data_dir: Path, socket: Path, lock: int | None = None) -> None:
        import subprocess

        order = {
            "data_dir": str(data_dir),
            "socket": str(socket),
            "config": self._config,
            "temporary": self._home is None,
            "start_seconds": self._start_seconds,
            "stop_seconds": self._stop_seconds,
        }
        process = subprocess.Popen(
            [sys.executable, "-P", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )
        try:
            answer = _hand_over(process, order)
            if answer:
                raise BrokerError(_start_failure(answer, data_dir))
            self.pid = probe.process_id(socket)
        except BaseException:  # Ctrl-C too leaves no server behind
            _let_go(process)
            process.terminate()
            process.wait()
            self._remove_if_private(data_dir)
            raise
        self._keeper, self._data_dir, self._socket = process, data_dir, socket

    def _remove_if_private(self, data_dir: Path) -> None:
        if self._home is None:
            import shutil

            shutil.rmtree(data_dir, ignore_errors=True)


def _hand_over(process: subprocess.Popen[bytes], order: dict[str, Any]) -> dict[str, str]:
    """Give the keeper its order; return its answer, empty when the server is up."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    with process.stdout:
        line = process.stdout.readline()
    answer: dict[str, str] = json.loads(line or '{"error": "its keeper ended early", "log": ""}')
    return answer


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that keeps the server alive."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _start_failure(answer: Mapping[str, str], data_dir: Path) -> str:
    log = f"; the end of {data_dir / 'valkey.log'}:\n{answer['log']}" if answer["log"] else ""
    return f"the embedded Valkey server did not start: {answer['error']}{log}"
