"""Enqueueing to a broker that is closed, away, or not named."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
import redis.exceptions

from tests.cli.conftest import Run
from tests.cli.refusals import assert_refused
from twolane.broker import connect_blocking
from twolane.embedded import Embedded

CANARY = "c4n4ry"


@pytest.fixture(scope="module")
def locked() -> Iterator[int]:
    """The port of a server with a password."""
    with Embedded.private() as server, connect_blocking(server.url, 5) as client:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            with contextlib.suppress(redis.exceptions.ResponseError):  # taken in the meantime
                client.config_set("port", port)
                break
        client.config_set("requirepass", CANARY + "-right")
        yield port


@pytest.mark.parametrize(
    "command", [["enqueue", "query"], ["runs"], ["status", "--json"], ["worker", "io"]], ids=str
)
def test_a_wrong_password_is_refused_and_never_shown(
    twolane: Run, locked: int, command: list[str]
) -> None:
    url = f"redis://user:{CANARY}-wrong@127.0.0.1:{locked}/0"

    code, out, err = twolane(*command, TWOLANE_BROKER=url)

    assert (code, out) == (3, "")
    assert "refuses the user name or password" in err
    assert CANARY not in err
    assert "Traceback" not in err


def test_a_missing_password_is_said(twolane: Run, locked: int) -> None:
    ended = twolane("enqueue", "query", "--broker", f"redis://127.0.0.1:{locked}/0")

    assert_refused(ended, 3, "wants a password")


def test_an_unreachable_broker_is_said_with_what_to_do(twolane: Run) -> None:
    ended = twolane("enqueue", "query", TWOLANE_BROKER=f"redis://:{CANARY}@127.0.0.1:1/0")

    assert_refused(
        ended, 3, "no Valkey or Redis answers at redis://***@127.0.0.1:1/0", "twolane up"
    )
    assert CANARY not in ended.err


def test_no_broker_at_all_names_both_ways_to_have_one(twolane: Run) -> None:
    ended = twolane("enqueue", "query", TWOLANE_BROKER="")

    assert_refused(ended, 3, "twolane up", "--broker", "TWOLANE_BROKER")


@pytest.mark.parametrize("url", [f"http://:{CANARY}@host", f"redis://:{CANARY}@h:port", CANARY])
def test_a_malformed_broker_url_is_a_usage_error_that_does_not_repeat_it(
    twolane: Run, url: str
) -> None:
    ended = twolane("enqueue", "query", "--broker", url)

    assert_refused(ended, 2, "not a broker URL")
    assert CANARY not in ended.err
