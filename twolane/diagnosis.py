"""What a client library's error means for the person at the keyboard, in one line of ours."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from twolane.address import credentials, redacted
from twolane.errors import BrokerError, BrokerRefused, BrokerUnreachable

SILENCE: Final = "no answer in time"
NEXT_STEP: Final = "start one with `twolane up`, or name yours with --broker URL or TWOLANE_BROKER"


def explain(error: Exception, url: str) -> BrokerError:
    """The error of ours, not yet raised, that says what ``error`` means for ``url``.

    Raise it outside the ``except`` block, so that it does not carry ``error`` along.
    """
    from redis import exceptions as theirs

    # On a Unix socket redis-py wraps what the server said to AUTH or SELECT.
    if isinstance(error.__cause__, theirs.RedisError):
        error = error.__cause__
    address = redacted(url)
    text = _said(error, url)
    if isinstance(error, (theirs.NoPermissionError, theirs.AuthorizationError)):
        return BrokerRefused(
            f"{address} lets us in and forbids what we need ({text}); allow it with ACL SETUSER"
        )
    if isinstance(error, theirs.AuthenticationError):
        return BrokerRefused(f"{address} {_refusal(text)}")
    if isinstance(error, theirs.BusyLoadingError):
        return BrokerUnreachable(f"{address} is still loading its data; try again in a moment")
    if "max number of clients" in text:
        return BrokerRefused(f"{address} has no connection left ({text}); raise its maxclients")
    if isinstance(error, theirs.ResponseError):
        return _refused_command(address, text)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return BrokerRefused(_tls_failure(address, cause))
    reason = _network_reason(error)
    if reason == SILENCE and address.startswith("rediss:"):
        # Valkey takes the TLS greeting for the beginning of a command, and waits for the rest.
        reason += ", as from a server without TLS"
    return BrokerUnreachable(f"no Valkey or Redis answers at {address} ({reason}); {NEXT_STEP}")


def _said(error: BaseException, url: str) -> str:
    """The server's words, on one printable line, without the credentials that it may echo.

    A server that does not know AUTH quotes its arguments; a stranger may quote anything.
    """
    text = str(error).partition(" with args beginning with")[0]
    for secret in credentials(url):
        text = text.replace(secret, "***")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split()).partition(". ")[0].rstrip(".,;: ")[:200]


def _refusal(text: str) -> str:
    if "without any password" in text:
        return "has no password set, and the URL has one; take it out of the URL"
    if "required" in text.lower():
        return "wants a password; put it in the URL, as in redis://:password@host:6379/0"
    return "refuses the user name or password in the URL; correct it there"


def _refused_command(address: str, text: str) -> BrokerRefused:
    if "DB index" in text:
        step = "has no database of that number; most servers have 0 to 15"
        return BrokerRefused(f"{address} {step}")
    if "required" in text and "uthentication" in text:
        return BrokerRefused(f"{address} {_refusal(text)}")
    if "WRONGTYPE" in text:
        return BrokerRefused(
            f"{address} has a key of ours that is of another type ({text}); the workers' logs name "
            "it: delete it (DEL)"
        )
    return BrokerRefused(f"{address} refuses: {text}; see the server's configuration")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what led to it. redis-py keeps the socket's error as the context alone."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _tls_failure(address: str, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address} does not verify ({error.verify_message.rstrip('.')}); "
            "name its authority with ?ssl_ca_certs=/path/to/ca.pem, and its host as certified"
        )
    reason = (error.reason or "handshake failed").replace("_", " ").lower()
    return (
        f"no TLS with {address} ({reason}); if the server does not speak TLS, "
        "write redis:// instead of rediss://"
    )


def _network_reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, TimeoutError):
            return SILENCE
        if isinstance(cause, socket.gaierror):
            return "the host's name is not known"
        if isinstance(cause, OSError):
            # asyncio joins the failures of a name's several addresses into one without a number
            found = re.search(r"\[Errno (\d+)\]", str(cause))
            number = cause.errno or (int(found[1]) if found else 0)
            if number:
                return os.strerror(number)
    if "Timeout" in type(error).__name__:
        return SILENCE
    return "it closed the connection, or speaks another protocol"
