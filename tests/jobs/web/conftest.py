"""Servers on loopback, and the context of a worker's jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp.test_utils import RawTestServer

from tests.jobs.web.servers import Handler, Serve
from twolane.jobs import web as web_jobs


@pytest.fixture
async def ctx() -> AsyncIterator[dict[str, Any]]:
    made: dict[str, Any] = {}
    await web_jobs.on_startup(made)
    yield made
    await web_jobs.on_shutdown(made)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            server = await stack.enter_async_context(RawTestServer(handler))
            return str(server.make_url("/")).rstrip("/")

        yield start
