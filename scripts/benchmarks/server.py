"""The one Valkey server that all contestants use, over TCP on the loopback interface."""

from __future__ import annotations

import socket
import time
from typing import Any, NamedTuple, Self

import redis

from twolane import broker
from twolane.embedded import Embedded


class Usage(NamedTuple):
    """What the server has spent so far: processor seconds, and calls of each command."""

    cpu_seconds: float
    calls: dict[str, int]
    micros: dict[str, int]

    def since(self, before: Usage) -> Usage:
        return Usage(
            self.cpu_seconds - before.cpu_seconds,
            _difference(self.calls, before.calls),
            _difference(self.micros, before.micros),
        )


def _difference(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    changes = {name: count - before.get(name, 0) for name, count in now.items()}
    return {name: count for name, count in changes.items() if count}


class Server:
    """A private embedded server with a loopback port; a context manager.

    The embedded server listens on a Unix socket only, and some peers speak TCP only: the port is
    opened for the benchmark, and everybody uses it.
    """

    def __init__(self) -> None:
        self._embedded = Embedded.private()

    def __enter__(self) -> Self:
        self._embedded.__enter__()
        self._client: redis.Redis = broker.connect_blocking(self._embedded.url)
        port = _free_port()
        self._client.config_set("bind", "127.0.0.1")
        self._client.config_set("port", port)
        self.url = f"redis://127.0.0.1:{port}/0"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._embedded.stop()

    def flush(self) -> None:
        """Forget everything; wait until those who were connected are gone."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and len(self._info("clients")["list"]) > 1:
            time.sleep(0.05)
        self._client.flushall(asynchronous=False)
        self._client.script_flush()

    def usage(self) -> Usage:
        cpu = self._info("cpu")
        stats = self._info("commandstats")
        names = {name.removeprefix("cmdstat_"): one for name, one in stats.items()}
        return Usage(
            float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
            {name: int(one["calls"]) for name, one in names.items()},
            {name: int(one["usec"]) for name, one in names.items()},
        )

    @property
    def version(self) -> str:
        return str(self._info("server").get("valkey_version", "?"))

    def _info(self, section: str) -> dict[str, Any]:
        if section == "clients":
            return {"list": self._client.client_list()}
        found: dict[str, Any] = self._client.info(section)
        return found


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
