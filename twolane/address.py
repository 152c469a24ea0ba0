"""A broker's URL: read with its credentials, shown without them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from twolane.errors import UsageError

_SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}
TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS: Final = (*TLS_FILES, "ssl_check_hostname", "ssl_cert_reqs")
_FALSE: Final = ("0", "f", "false", "n", "no")
_HOST: Final = re.compile(r"[\w.-]+|[0-9a-f:.]+(%[\w.-]+)?", re.ASCII)
_TRUE: Final = ("1", "t", "true", "y", "yes")


@dataclass(frozen=True)
class Address:
    """Where a server is and how to be let in. Its ``repr`` has no credentials."""

    scheme: str  # redis, rediss or unix
    host: str = ""
    port: int = 0
    path: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        secret = "***@" if self.username or self.password else ""
        if self.scheme == "unix":
            return f"unix://{secret}{quote(self.path)}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{secret}{host}:{self.port}/{self.db}"


def parse(url: str) -> Address:
    """The address that ``url`` names.

    ``redis://[[user]:password@]host[:6379][/db]``, the same with ``rediss`` for TLS,
    ``unix:///path[?db=1]``; ``valkey`` and ``valkeys`` mean ``redis`` and ``rediss``. Options:
    ``db``, ``username``, ``password``, and for TLS ``ssl_ca_certs``, ``ssl_certfile``,
    ``ssl_keyfile`` (paths), ``ssl_check_hostname`` and ``ssl_cert_reqs`` (``required``, ``none``).

    Raises `UsageError` for anything else. The message never quotes the URL: what cannot be parsed
    may be a password.
    """
    try:
        return _parse(url)
    except _Malformed as error:
        fault = str(error)
    except ValueError:
        fault = "its host or port cannot be read (a password's @ / : # ? need percent-encoding)"
    raise UsageError(
        f"not a broker URL: {fault}; one looks like redis://:password@host:6379/0 "
        "or unix:///path/to/valkey.sock"
    )


def redacted(url: str) -> str:
    """``url`` fit for logs and errors: no credentials, no options. Never raises."""
    try:
        return str(parse(url))
    except UsageError:
        pass
    scheme = url.partition("://")[0].lower()
    return f"{scheme}://***" if scheme in _SCHEMES else "***"


def credentials(url: str) -> tuple[str, ...]:
    """What must not be shown of ``url``: nothing when it cannot be parsed."""
    try:
        address = parse(url)
    except UsageError:
        return ()
    return tuple(secret for secret in (address.password, address.username) if secret)


class _Malformed(Exception):
    """What is wrong with a URL, in words that quote nothing of it."""


def _parse(url: str) -> Address:
    parts = urlsplit(url.strip())
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or "://" not in url:
        raise _Malformed(f"its scheme is none of {', '.join(f'{name}://' for name in _SCHEMES)}")
    if parts.fragment or "#" in url:
        raise _Malformed("it has a #, which a password must write as %23")
    # strict: a password's unquoted ? would otherwise vanish as an empty option
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    tls: dict[str, str] = {name: query.pop(name) for name in _TLS_OPTIONS if name in query}
    username = query.pop("username", None) or unquote(parts.username or "") or None
    password = query.pop("password", None) or unquote(parts.password or "") or None
    db = query.pop("db", "")
    if query:
        raise _Malformed(
            "it has an option besides db, username, password, " + ", ".join(_TLS_OPTIONS)
        )
    if tls and scheme != "rediss":
        raise _Malformed("its ssl_ options need the scheme rediss:// or valkeys://")
    if scheme == "unix":
        if parts.hostname or len(parts.path) < 2:
            raise _Malformed("the socket's path must be absolute, after three slashes")
        if re.search(r":[^/]*@", unquote(parts.path)):
            raise _Malformed("a password belongs before the path, as in unix://:password@/path")
        return Address(
            scheme,
            path=unquote(parts.path),
            db=_db(db),
            username=username,
            password=password,
        )
    host = parts.hostname or "localhost"
    if not _HOST.fullmatch(host):
        raise _Malformed("its host is not a host's name or address")
    return Address(
        scheme,
        host=host,
        port=6379 if parts.port is None else parts.port,
        db=_db(db or parts.path.strip("/")),
        username=username,
        password=password,
        tls=_tls(tls) if scheme == "rediss" else {},
    )


def _db(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _Malformed("its database is not a number")
    return int(text)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    """Verify the certificate and the host's name, unless the URL says otherwise."""
    required = options.get("ssl_cert_reqs", "required")
    if required not in ("required", "none"):
        raise _Malformed("ssl_cert_reqs is neither required nor none")
    named = options.get("ssl_check_hostname", "true").lower()
    if named not in _FALSE + _TRUE:
        raise _Malformed("ssl_check_hostname is neither true nor false")
    if ("ssl_certfile" in options) != ("ssl_keyfile" in options):
        raise _Malformed("ssl_certfile and ssl_keyfile need one another")
    return {
        **{name: options[name] for name in TLS_FILES if name in options},
        "ssl_cert_reqs": required,
        "ssl_check_hostname": required == "required" and named in _TRUE,
    }
