"""A TCP proxy before a Valkey, which delays, cuts and swallows what passes.

It reads the requests' bytes for our scripts, so that a cut can be aimed at one operation: before it
reaches the server, or after the server has done it and before its reply gets back.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final, Literal, Self

from twolane import store

CHUNK_BYTES: Final = 256 * 1024
Where = Literal["before", "after"]
SCRIPTS: Final = ("enqueue", "claim", "renew", "acknowledge", "retry", "release", "cancel")


class Proxy:
    """Stands before the port ``server`` of this machine. A context manager.

    ``latency`` gives the seconds that each piece of a request waits, ``reply_latency`` those of a
    reply. ``swallow`` holds back every byte of the connections that are open then (their sockets
    stay open): half-open connections.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._marks: dict[bytes, str] = {}
        for name in SCRIPTS:
            # Called by its digest, or sent whole where the server does not have it.
            self._marks[getattr(store, name.upper()).sha.encode()] = name
            file = resources.files("twolane").joinpath("lua", f"{name}.lua")
            self._marks[file.read_bytes().partition(b"\n")[0]] = name
        self.longest_mark = max(map(len, self._marks))
        self._hooks: dict[tuple[str, Where], Callable[[], Awaitable[bool]]] = {}
        self._connections: set[Connection] = set()
        self.latency: Callable[[], float] = lambda: 0.0
        self.reply_latency: Callable[[], float] = lambda: 0.0
        self.cuts: Counter[str] = Counter()  # by script
        self.opened = 0  # connections
        self.delayed = 0  # pieces of requests

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut_all()
        for one in list(self._connections):
            await one.ended()

    @property
    def cut(self) -> int:
        """How many calls were cut."""
        return self.cuts.total()

    def on(self, script: str, where: Where, hook: Callable[[], Awaitable[bool]]) -> None:
        """Call ``hook`` at each call of a script; the connection is cut where it answers True."""
        self._hooks[script, where] = hook

    def hold(
        self, script: str, where: Where, matters: Callable[[], Awaitable[Any]] | None = None
    ) -> Gate:
        """Hold calls of a script, those that matter, until the gate is opened; then cut them."""
        gate = Gate()

        async def hook() -> bool:
            if matters is not None and not await matters():
                return False
            gate.reached.set()
            await gate.opened.wait()
            return True

        self.on(script, where, hook)
        return gate

    def cut_at_random(self, choose: random.Random, share: float, where: Where) -> None:
        """Cut the connection at such a share of all calls of scripts."""

        async def hook() -> bool:
            return choose.random() < share

        for script in SCRIPTS:
            self.on(script, where, hook)

    def leave_alone(self) -> None:
        self._hooks.clear()

    def cut_all(self) -> None:
        for one in list(self._connections):
            one.cut()

    def swallow(self) -> int:
        """Make what is open now half-open; returns how many connections that were."""
        for one in self._connections:
            one.swallowing = True
        return len(self._connections)

    def scripts_in(self, data: bytes) -> list[str]:
        return [name for mark, name in self._marks.items() if mark in data]

    def hook(self, script: str, where: Where) -> Callable[[], Awaitable[bool]] | None:
        return self._hooks.get((script, where))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            inner = await asyncio.open_connection("127.0.0.1", self._server)
        except OSError:
            writer.close()
            return
        connection = Connection(self, (reader, writer), inner)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class Gate:
    """Where calls of a script are held: whether one has come, and whether they may go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """One client's connection and ours to the server."""

    def __init__(self, proxy: Proxy, outer: Pair, inner: Pair) -> None:
        self._proxy = proxy
        self._outer, self._inner = outer, inner
        self._after: list[str] = []
        self._done = asyncio.Event()
        self.swallowing = False

    async def run(self) -> None:
        ways = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        self.cut()
        for one in ways:
            one.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._done.set()

    async def ended(self) -> None:
        await self._done.wait()

    def cut(self) -> None:
        for _, writer in (self._outer, self._inner):
            writer.transport.abort()

    async def _requests(self) -> None:
        # A mark may lie across two reads: the end of the read before is looked at again.
        tail = b""
        while data := await self._read(self._outer[0]):
            if delay := self._proxy.latency():
                self._proxy.delayed += 1
                await asyncio.sleep(delay)
            scripts = self._proxy.scripts_in(tail + data)
            tail = b"" if scripts else data[-self._proxy.longest_mark :]
            for one in scripts:
                hook = self._proxy.hook(one, "before")
                if hook is not None and await hook():
                    self._proxy.cuts[one] += 1
                    return
            self._after += [one for one in scripts if self._proxy.hook(one, "after")]
            if not self.swallowing:
                self._inner[1].write(data)
                await self._inner[1].drain()

    async def _replies(self) -> None:
        while data := await self._read(self._inner[0]):
            after, self._after = self._after, []
            for one in after:
                hook = self._proxy.hook(one, "after")
                if hook is not None and await hook():
                    self._proxy.cuts[one] += 1
                    return
            if delay := self._proxy.reply_latency():
                await asyncio.sleep(delay)
            if not self.swallowing:
                self._outer[1].write(data)
                await self._outer[1].drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(CHUNK_BYTES)
        except OSError:
            return b""
