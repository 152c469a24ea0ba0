"""A password that must not be shown, and looks for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from urllib.parse import quote

from twolane import broker

CANARY = "c4n4ry/p@ss:w?rd"
ENCODED = quote(CANARY, safe="")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


async def check(url: str) -> None:
    client = broker.connect(url)
    try:
        await broker.check(client, url)
    finally:
        await client.aclose()


def shown(error: BaseException) -> str:
    """Everything of an error that a log or a crash reporter could print."""
    texts = traceback.format_exception(error)
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link), repr(link.args)]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def assert_keeps_the_secret(text: str) -> None:
    for secret in (CANARY, ENCODED, "c4n4ry", "w?rd", "w%3Frd"):
        assert secret not in text


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
