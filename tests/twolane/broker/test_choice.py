"""Which broker is used: the one named, else the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.twolane.broker.canary import CANARY
from twolane import broker
from twolane.embedded import Embedded
from twolane.errors import BrokerUnreachable, UsageError


def test_the_named_broker_comes_first() -> None:
    environ = {"TWOLANE_BROKER": "redis://from-environment"}

    assert broker.resolve("redis://named", environ) == "redis://named"
    assert broker.resolve(None, environ) == "redis://from-environment"


def test_else_the_users_embedded_server_is_used(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home, runtime = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("run")
    environ = {"TWOLANE_HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}

    with Embedded.for_user(environ=environ) as server:
        assert broker.resolve(None, environ) == server.url


def test_else_both_ways_to_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnreachable, match=r"twolane up.*--broker URL or TWOLANE_BROKER"):
        broker.resolve(None, {"TWOLANE_HOME": str(tmp_path)})


def test_a_malformed_url_from_the_environment_is_told() -> None:
    with pytest.raises(UsageError):
        broker.resolve(None, {"TWOLANE_BROKER": CANARY})


def test_a_password_comes_from_a_file_where_the_url_has_none(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(CANARY + "\n")
    environ = {"TWOLANE_BROKER_PASSWORD_FILE": str(file)}

    found = broker.parse(broker.resolve("redis://ada@host:7000/3", environ))

    assert (found.username, found.password, found.port, found.db) == ("ada", CANARY, 7000, 3)
    assert broker.resolve("redis://:own@host", environ) == "redis://:own@host"
    assert broker.resolve("unix:///run/valkey.sock", environ) == "unix:///run/valkey.sock"


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    environ = {"TWOLANE_BROKER_PASSWORD_FILE": str(tmp_path / "missing")}

    with pytest.raises(UsageError, match=r"TWOLANE_BROKER_PASSWORD_FILE: cannot read .*missing"):
        broker.resolve("redis://host", environ)
