"""A server without a password, and one with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis.exceptions

from tests.twolane.broker.canary import CANARY, free_port
from twolane import broker
from twolane.embedded import Embedded


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with Embedded.private() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[str, int]]:
    """A server with a password, at a socket's path and at a port of the loopback."""
    with Embedded.private() as running:
        path = running.url.removeprefix("unix://")
        with broker.connect_blocking(running.url, 5) as client:
            port = listen_on_free_port(client)
            client.config_set("requirepass", CANARY)
        yield path, port


def listen_on_free_port(client: redis.Redis) -> int:
    while True:
        port = free_port()
        with contextlib.suppress(redis.exceptions.ResponseError):  # taken in the meantime
            client.config_set("port", port)
            return port
