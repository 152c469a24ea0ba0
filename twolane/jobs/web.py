"""The job that waits for a web server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from twolane.registry import job

if TYPE_CHECKING:
    import aiohttp

SESSION = "fetch_session"

Url = Annotated[
    str,
    msgspec.Meta(
        # Schemes are case-insensitive: RFC 3986, 3.1.
        pattern="^[hH][tT][tT][pP][sS]?://",
        max_length=8_000,  # what RFC 9110, 4.1 asks every recipient to support
        description="an http or https URL",
    ),
]


@job(timeout=60)
async def fetch(ctx: dict[str, Any], url: Url) -> dict[str, str | int]:
    """Get a URL: its final ``url``, ``status``, and the body's ``bytes`` and ``sha256``.

    At most 30 s, 10 MiB and 5 redirects. Link-local, metadata, multicast and unspecified addresses
    are refused, after resolution and after each redirect; :mod:`twolane.jobs.web_client` says how.

    Raises:
        twolane.jobs.web_client.FetchError: refused, over a limit, or answered 400 or above.
        aiohttp.ClientError: the connection failed.
    """
    from twolane.jobs.web_client import get

    return await get(_session(ctx), url)


async def on_startup(ctx: dict[str, Any]) -> None:
    """Make the worker's session before the first job, whose loop the import would hold."""
    _session(ctx)


async def on_shutdown(ctx: dict[str, Any]) -> None:
    """Close the session and its connections."""
    if session := ctx.pop(SESSION, None):
        await session.close()


def _session(ctx: dict[str, Any]) -> aiohttp.ClientSession:
    from twolane.jobs.web_client import open_session

    if SESSION not in ctx:
        ctx[SESSION] = open_session()
    session: aiohttp.ClientSession = ctx[SESSION]
    return session
