"""The embedded server: its start, its end, and the data that survives both."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.twolane.embedded.observing import get, is_gone, mode, put
from twolane import broker
from twolane.embedded import Embedded
from twolane.errors import BrokerError


def test_a_private_server_answers_and_leaves_nothing() -> None:
    with Embedded.private() as server:
        put(server.url, "value")
        directory = Path(server.url.removeprefix("unix://")).parent

        assert server.alive()
        assert get(server.url) == b"value"
        assert mode(directory) == 0o700

    assert not server.alive()
    assert not directory.exists()
    assert is_gone(server.pid)


def test_a_server_opens_no_tcp_port_and_evicts_nothing() -> None:
    with Embedded.private() as server, broker.connect_blocking(server.url, 5) as client:
        settings = client.config_get("port", "maxmemory-policy")

        assert settings == {"port": "0", "maxmemory-policy": "noeviction"}


def test_a_private_server_can_write_an_append_only_file() -> None:
    with (
        Embedded.private(appendfsync="always") as server,
        broker.connect_blocking(server.url, 5) as client,
    ):
        settings = client.config_get("appendfsync", "appendonly")

        assert settings == {"appendfsync": "always", "appendonly": "yes"}


def test_a_server_that_is_not_running_has_no_url() -> None:
    with pytest.raises(BrokerError, match="not running"):
        _ = Embedded.private().url


def test_start_and_stop_twice_are_as_once(server: Embedded) -> None:
    server.start()
    pid = server.pid
    server.start()

    assert server.pid == pid

    server.stop()
    server.stop()

    assert is_gone(pid)


def test_data_survives_stop_and_start(server: Embedded) -> None:
    server.start()
    put(server.url, "kept")

    server.stop()
    server.start()

    assert get(server.url) == b"kept"


def test_acknowledged_data_survives_a_killed_server(server: Embedded) -> None:
    server.start()
    put(server.url, "kept")

    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.start()

    assert get(server.url) == b"kept"


def test_an_append_only_file_cut_short_by_a_crash_loads(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    put(server.url, "kept")
    server.stop()
    (log,) = Path(environ["TWOLANE_HOME"]).rglob("*.incr.aof")

    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$9\r\nhalf-wri")
    server.start()

    assert get(server.url) == b"kept"


def test_a_failed_start_shows_the_end_of_the_log_and_can_be_repaired(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    server.stop()
    (log,) = Path(environ["TWOLANE_HOME"]).rglob("*.incr.aof")
    log.write_bytes(b"this is no append-only file\r\n" * 9)

    with pytest.raises(BrokerError) as caught:
        server.start()

    assert "did not start" in str(caught.value)
    assert "Bad file format" in str(caught.value)
    assert not server.alive()

    log.write_bytes(b"")
    server.start()

    assert server.alive()
