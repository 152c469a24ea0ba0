"""``fetch`` against real servers on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import zlib
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.jobs.web.servers import Serve, hello, redirecting
from twolane.jobs import web as web_jobs
from twolane.jobs.web import fetch
from twolane.jobs.web_client import (
    BadStatus,
    BodyTooLarge,
    FetchTimedOut,
    Limits,
    TooManyRedirects,
    get,
    open_session,
)


async def test_an_answer_is_counted_and_hashed(ctx: dict[str, Any], serve: Serve) -> None:
    base = await serve(hello)

    answer = await fetch(ctx, f"{base}/a?b=c")

    assert answer == {
        "url": f"{base}/a?b=c",
        "status": 200,
        "bytes": 5,
        "sha256": hashlib.sha256(b"hello").hexdigest(),
    }


async def test_one_session_serves_a_worker_even_without_a_startup_hook(serve: Serve) -> None:
    base = await serve(hello)
    ctx: dict[str, Any] = {}

    await asyncio.gather(*(fetch(ctx, base) for _ in range(150)))
    session = ctx[web_jobs.SESSION]
    await web_jobs.on_shutdown(ctx)

    assert session.closed
    assert ctx == {}


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_a_status_of_400_or_above_fails_the_job(
    ctx: dict[str, Any], serve: Serve, status: int
) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    with pytest.raises(BadStatus, match=str(status)) as failure:
        await fetch(ctx, await serve(refuse))

    assert failure.value.status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_and_the_last_url_told(
    ctx: dict[str, Any], serve: Serve, status: int
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await (hello if request.path == "/there" else redirecting("there", status))(request)

    base = await serve(answer)

    assert (await fetch(ctx, f"{base}/here"))["url"] == f"{base}/there"


@pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
async def test_five_redirects_are_followed_and_no_more(
    ctx: dict[str, Any], serve: Serve, hops: int, arrives: bool
) -> None:
    async def count_down(request: web.BaseRequest) -> web.StreamResponse:
        left = int(request.path[1:])
        return await (redirecting(f"/{left - 1}") if left else hello)(request)

    base = await serve(count_down)

    if arrives:
        assert (await fetch(ctx, f"{base}/{hops}"))["url"] == f"{base}/0"
    else:
        with pytest.raises(TooManyRedirects, match="more than 5 times"):
            await fetch(ctx, f"{base}/{hops}")


async def test_an_endless_body_is_cut_off(ctx: dict[str, Any], serve: Serve) -> None:
    ended = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            ended.set()

    with pytest.raises(BodyTooLarge, match="10485760 bytes"):
        await fetch(ctx, await serve(endless))

    await ended.wait()


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
async def test_the_limit_of_a_body_is_exact(serve: Serve, size: int, fits: bool) -> None:
    async def sized(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"x" * size)

    base = await serve(sized)

    async with open_session() as session:
        if fits:
            assert (await get(session, base, Limits(body_bytes=1000)))["bytes"] == size
        else:
            with pytest.raises(BodyTooLarge):
                await get(session, base, Limits(body_bytes=1000))


async def test_a_compressed_body_counts_as_what_it_unpacks_to(
    ctx: dict[str, Any], serve: Serve
) -> None:
    packed = zlib.compress(bytes(20 * 1024 * 1024))
    assert len(packed) < 100_000

    async def bomb(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "deflate"})

    with pytest.raises(BodyTooLarge):
        await fetch(ctx, await serve(bomb))


async def test_a_server_that_never_answers_is_given_up(serve: Serve) -> None:
    never = asyncio.Event()

    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    base = await serve(hang)

    async with open_session() as session:
        with pytest.raises(FetchTimedOut, match=r"no whole answer within 0\.05 s"):
            await get(session, base, Limits(total_seconds=0.05))
    never.set()


async def test_a_refused_connection_is_the_librarys_error(ctx: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]

    with pytest.raises(aiohttp.ClientConnectorError, match=str(port)):
        await fetch(ctx, f"http://127.0.0.1:{port}/")


async def test_no_proxy_is_taken_from_the_environment(
    ctx: dict[str, Any], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")

    assert (await fetch(ctx, await serve(hello)))["status"] == 200


async def test_no_cookie_is_kept_between_jobs(ctx: dict[str, Any], serve: Serve) -> None:
    async def bake(request: web.BaseRequest) -> web.StreamResponse:
        status = 400 if "Cookie" in request.headers else 200
        return web.Response(status=status, headers={"Set-Cookie": "a=b"})

    base = (await serve(bake)).replace("127.0.0.1", "localhost")

    await fetch(ctx, base)
    assert (await fetch(ctx, base))["status"] == 200


async def test_a_password_stays_out_of_answers_and_errors(
    ctx: dict[str, Any], serve: Serve
) -> None:
    async def ask(request: web.BaseRequest) -> web.StreamResponse:
        known = request.headers.get("Authorization") == "Basic bWU6czNjcmV0"  # base64 of me:s3cret
        return web.Response(status=200 if known and request.path == "/" else 403)

    base = (await serve(ask)).replace("http://", "http://me:s3cret@")

    answer = await fetch(ctx, f"{base}/")
    with pytest.raises(BadStatus) as failure:
        await fetch(ctx, f"{base}/other")

    assert "s3cret" not in str(answer)
    assert "s3cret" not in str(failure.value)
