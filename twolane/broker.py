"""Connects to the Valkey or Redis server that a URL names.

A URL may carry credentials. Nothing that this module raises or returns shows them: messages are
made from the parsed address, and errors are raised outside the ``except`` that caught their cause,
so that no exception chain leads to a text that has them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from twolane import embedded, password_file
from twolane.address import TLS_FILES, Address, parse, redacted
from twolane.diagnosis import NEXT_STEP, explain
from twolane.errors import BrokerUnreachable, UsageError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

__all__ = [
    "Address",
    "check",
    "connect",
    "connect_blocking",
    "explain",
    "parse",
    "redacted",
    "resolve",
]

PASSWORD_FILE: Final = "TWOLANE_BROKER_PASSWORD_FILE"
CONNECT_SECONDS: Final = 5.0
HEALTH_CHECK_SECONDS: Final = 30  # of idling, after which a connection is tried before it is used


def connect(url: str, **options: Any) -> redis.asyncio.Redis:
    """A client with a pool of its own; nothing is sent before its first command.

    Replies are bytes (RESP2). ``options`` go to redis-py's connections and override ours. No
    command is ever sent twice on its own: when a connection breaks under a script, whether the
    script ran is unknown, and only the caller knows whether it may run again.

    Raises `UsageError` for a malformed URL and for a TLS file that is not there.
    """
    import redis.asyncio as client

    address = parse(url)
    classes = {
        "redis": client.Connection,
        "rediss": client.SSLConnection,
        "unix": client.UnixDomainSocketConnection,
    }
    arguments = {**_arguments(address), **options}
    pool = client.ConnectionPool(connection_class=classes[address.scheme], **arguments)
    return client.Redis.from_pool(pool)


def connect_blocking(url: str, socket_timeout: float | None = None) -> redis.Redis:
    """The same for a thread: ``socket_timeout`` (seconds) bounds connecting and each reply."""
    import redis as client

    address = parse(url)
    classes = {
        "redis": client.Connection,
        "rediss": client.SSLConnection,
        "unix": client.UnixDomainSocketConnection,
    }
    arguments = _arguments(address)
    if socket_timeout is not None:
        arguments["socket_timeout"] = socket_timeout
        arguments["socket_connect_timeout"] = min(socket_timeout, CONNECT_SECONDS)
    pool = client.ConnectionPool(connection_class=classes[address.scheme], **arguments)
    return client.Redis.from_pool(pool)


async def check(client: redis.asyncio.Redis, url: str) -> None:
    """Return when the server answers a PING; raise `BrokerUnreachable` or `BrokerRefused`.

    Takes `CONNECT_SECONDS` at most, also with a server that accepts and says nothing.
    """
    from redis.exceptions import RedisError

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.ping()
        return
    except (RedisError, OSError, ValueError) as error:
        failure = explain(error, url)
    raise failure


def resolve(explicit: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The URL to use: ``explicit``, else ``TWOLANE_BROKER``, else the user's embedded server's.

    A URL of a host without a password gets the one in ``TWOLANE_BROKER_PASSWORD_FILE``, where that
    is set: so containers get it from a secret's file.

    Raises `UsageError` when the URL is malformed, `BrokerUnreachable` when there is none.
    """
    url = explicit or environ.get("TWOLANE_BROKER")
    if url:
        return _with_password(url, environ.get(PASSWORD_FILE))
    url = embedded.find(environ)
    if url is None:
        raise BrokerUnreachable(f"no broker is running for you; {NEXT_STEP}")
    return url


def _with_password(url: str, file: str | None) -> str:
    address = parse(url)
    if not file or address.password or address.scheme == "unix":
        return url
    password = password_file.read(PASSWORD_FILE, file, UsageError)
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(
        netloc=f"{user.partition(':')[0]}:{quote(password, safe='')}@{host}"
    ).geturl()


def _arguments(address: Address) -> dict[str, Any]:
    """What redis-py's connections take, async and blocking alike."""
    from redis.credentials import UsernamePasswordCredentialProvider

    for name in TLS_FILES:
        if name in address.tls and not Path(address.tls[name]).is_file():
            raise UsageError(f"{name} in the broker URL: there is no file {address.tls[name]}")
    arguments: dict[str, Any] = {
        "db": address.db,
        "protocol": 2,
        "decode_responses": False,
        "client_name": "twolane",
        "socket_connect_timeout": CONNECT_SECONDS,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        **address.tls,
    }
    if address.username or address.password:
        # In an object of its own, so that printed connection arguments do not show the password.
        arguments["credential_provider"] = UsernamePasswordCredentialProvider(
            address.username, address.password
        )
    if address.scheme == "unix":
        return {**arguments, "path": address.path}
    return {
        **arguments,
        "host": address.host,
        "port": address.port,
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(),
    }


def _keepalive() -> dict[int, int]:
    """Notice within half a minute that the server's machine is gone; the default is two hours."""
    options = {
        "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE": 15,  # seconds
        "TCP_KEEPINTVL": 5,  # seconds
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 30_000,  # ms: the same for a connection with unacknowledged data
    }
    return {
        getattr(socket, name): value for name, value in options.items() if hasattr(socket, name)
    }
