"""What stands between a worker and its server, to fall silent in the middle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

PASS, SWALLOW = "pass", "swallow"


class Silencer:
    """Stands before a server; the connections that it swallows stay open, and say nothing."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._modes: list[list[str]] = []
        self.opened = 0

    @contextlib.asynccontextmanager
    async def running(self, path: str) -> AsyncIterator[None]:
        async with await asyncio.start_unix_server(self._accept, path):
            yield

    def swallow(self) -> None:
        for one in self._modes:
            one[0] = SWALLOW

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        mode = [PASS]
        self._modes.append(mode)
        inner = await asyncio.open_unix_connection(self._socket)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if mode[0] == PASS:
                        target.write(data)
            target.close()

        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))
