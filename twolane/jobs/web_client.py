"""An HTTP client for URLs that others choose.

Guarantees: it speaks http and https only, connects to no address that
:mod:`twolane.jobs.addresses` refuses, and ends within its :class:`Limits`. A name is resolved once
a connection, and the connection goes to the very addresses that were checked, so a name server
that answers differently the second time gains nothing. Every redirect is checked as the first URL
was, and none leads from https to http.

Assumption: aiohttp hands every host to the connector's resolver, except numeric ones, which
:func:`check_url` looks at itself.

::

    FetchError
    ├── UrlRefused          no http(s) URL, or a redirect from https to http
    ├── AddressRefused      the host is, or resolves to, an address no job connects to
    ├── TooManyRedirects
    ├── BodyTooLarge
    ├── BadStatus           answered with 400 or above; ``status`` holds it
    └── FetchTimedOut
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from twolane import __version__
from twolane.jobs.addresses import literal_address, why_refused

REDIRECTS = frozenset({301, 302, 303, 307, 308})


class FetchError(Exception):
    """Base of what goes wrong here; errors of the connection itself are aiohttp's own."""


class UrlRefused(FetchError):
    pass


class AddressRefused(FetchError):
    def __init__(self, host: str, address: str, reason: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(
            f"{where} is a {reason} address, to which no job connects; "
            "loopback and private addresses are allowed"
        )


class TooManyRedirects(FetchError):
    pass


class BodyTooLarge(FetchError):
    pass


class BadStatus(FetchError):
    def __init__(self, url: str, status: int, reason: str | None) -> None:
        super().__init__(f"{url} answered {status} {reason or ''}".rstrip())
        self.status = status


class FetchTimedOut(FetchError):
    pass


@dataclass(frozen=True)
class Limits:
    """What one fetch may take, redirects included; the body is counted as decompressed."""

    total_seconds: float = 30.0
    body_bytes: int = 10 * 1024 * 1024
    redirects: int = 5


class CheckedResolver(AbstractResolver):
    """Resolves names as another resolver does, less the addresses that are refused."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve ``host`` to the addresses a job may connect to.

        Raises:
            AddressRefused: it has addresses, and none of them is allowed.
        """
        allowed = []
        refusal = None
        for found in await self._inner.resolve(host, port, family):
            if reason := why_refused(ip_address(found["host"])):
                refusal = AddressRefused(host, found["host"], reason)
            else:
                allowed.append(found)
        if refusal and not allowed:
            raise refusal
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def open_session(resolver: AbstractResolver | None = None) -> aiohttp.ClientSession:
    """A session of which any number of :func:`get` share connections; to be closed by the caller.

    It keeps no cookies and takes no proxy from the environment, and it limits no connections, as
    the worker's slots do. ``resolver`` is by default the operating system's (getaddrinfo).
    """
    # ThreadedResolver holds nothing to close, so that closing the session is enough.
    checked = CheckedResolver(resolver or aiohttp.ThreadedResolver())
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=checked),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"twolane/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=None),  # Limits holds for all redirects together
        trust_env=False,
    )


async def get(
    session: aiohttp.ClientSession, url: str, limits: Limits = Limits()
) -> dict[str, str | int]:
    """Get ``url``: the final ``url``, its ``status``, and the body's ``bytes`` and ``sha256``.

    Cancellation closes the connection.

    Raises:
        FetchError: see the module's tree.
        aiohttp.ClientError: the connection failed.
    """
    try:
        async with asyncio.timeout(limits.total_seconds):
            return await _follow(session, _parse(url), limits)
    except TimeoutError:
        raise FetchTimedOut(
            f"{_shown(_parse(url))}: no whole answer within {limits.total_seconds:g} s"
        ) from None


async def _follow(session: aiohttp.ClientSession, url: URL, limits: Limits) -> dict[str, str | int]:
    start = url
    for _ in range(limits.redirects + 1):
        check_url(url)
        async with session.get(url, allow_redirects=False) as response:
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return await _received(response, limits)
        url = next_url(url, location)
    raise TooManyRedirects(
        f"{_shown(start)} redirects more than {limits.redirects} times; the next was {_shown(url)}"
    )


async def _received(response: aiohttp.ClientResponse, limits: Limits) -> dict[str, str | int]:
    url = _shown(response.url)
    if response.status >= 400:
        raise BadStatus(url, response.status, response.reason)
    digest = hashlib.sha256()
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limits.body_bytes:
            raise BodyTooLarge(f"{url}: the body is larger than {limits.body_bytes} bytes")
        digest.update(chunk)
    return {"url": url, "status": response.status, "bytes": size, "sha256": digest.hexdigest()}


def check_url(url: URL) -> None:
    """Refuse what is no http(s) URL with a host, and a host spelled as a refused address.

    Raises:
        UrlRefused, AddressRefused
    """
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise UrlRefused(f"{_shown(url)}: give an http or https URL with a host")
    address = literal_address(url.raw_host)
    if address and (reason := why_refused(address)):
        raise AddressRefused(url.raw_host, str(address), reason)


def next_url(url: URL, location: str) -> URL:
    """Where a redirect leads. One to http drops what https promised: the answer is the server's.

    Raises:
        UrlRefused: no URL, or it leads from https to http.
    """
    target = url.join(_parse(location))
    if url.scheme == "https" and target.scheme == "http":
        raise UrlRefused(
            f"{_shown(url)} redirects from https to http ({_shown(target)}); "
            "fetch the http URL itself if that is meant"
        )
    return target


def _parse(text: str) -> URL:
    try:
        return URL(text)
    except ValueError as error:
        raise UrlRefused(f"not a URL: {error}") from None


def _shown(url: URL) -> str:
    """The URL for people and records: without user and password."""
    return str(url.with_user(None)) if url.absolute else str(url)
