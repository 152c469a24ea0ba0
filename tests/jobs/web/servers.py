"""What the servers on loopback answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


async def hello(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=b"hello")


def redirecting(location: str, status: int = 302) -> Handler:
    async def redirect(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": location})

    return redirect
