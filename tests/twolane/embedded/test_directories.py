"""The directories of the server: closed to others, and none that they planted."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.twolane.embedded.observing import mode, put
from twolane import embedded, private_dir
from twolane.embedded import Embedded
from twolane.errors import BrokerError


def test_data_and_socket_lie_in_closed_directories(
    server: Embedded, environ: dict[str, str]
) -> None:
    server.start()
    path = Path(server.url.removeprefix("unix://"))

    assert mode(Path(environ["TWOLANE_HOME"], "valkey")) == 0o700
    assert mode(path.parent) == 0o700
    assert mode(path) == 0o700


def test_a_planted_symbolic_link_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    home = Path(environ["TWOLANE_HOME"])
    home.mkdir()
    tmp_path.chmod(0o700)
    (home / "valkey").symlink_to(tmp_path)

    with pytest.raises(BrokerError, match="symbolic link"):
        Embedded.for_user(environ=environ).start()
    with pytest.raises(BrokerError, match="symbolic link"):
        embedded.find(environ)

    assert list(tmp_path.iterdir()) == []


def test_a_directory_open_to_others_is_refused(environ: dict[str, str]) -> None:
    data_dir = Path(environ["TWOLANE_HOME"], "valkey")
    data_dir.mkdir(parents=True, mode=0o700)
    data_dir.chmod(0o750)

    with pytest.raises(BrokerError, match=r"mode 0750.*chmod 700"):
        Embedded.for_user(environ=environ).start()


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)

    with pytest.raises(BrokerError, match="belongs to another user"):
        private_dir.check(tmp_path)


def test_a_planted_socket_directory_is_refused(
    server: Embedded, environ: dict[str, str], tmp_path: Path
) -> None:
    server.start()
    directory = Path(server.url.removeprefix("unix://")).parent
    server.stop()
    shutil.rmtree(directory)
    directory.symlink_to(tmp_path)

    with pytest.raises(BrokerError, match="symbolic link"):
        server.start()


def test_a_file_where_the_directory_should_be_is_refused(environ: dict[str, str]) -> None:
    Path(environ["TWOLANE_HOME"]).write_text("")

    with pytest.raises(BrokerError, match="TWOLANE_HOME"):
        Embedded.for_user(environ=environ).start()


@pytest.mark.parametrize("name", ["long/" + "x" * 120, "Application Support/dürfen"])
def test_a_home_whose_path_fits_no_socket_works(environ: dict[str, str], name: str) -> None:
    environ = {**environ, "TWOLANE_HOME": f"{environ['XDG_RUNTIME_DIR']}/{name}"}

    with Embedded.for_user(environ=environ) as server:
        put(server.url, "value")

        assert embedded.find(environ) == server.url


def test_a_runtime_directory_too_long_for_a_socket_is_passed_over(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = environ["XDG_RUNTIME_DIR"], Path(environ["XDG_RUNTIME_DIR"], "x" * 100)
    long.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", short)

    directory = private_dir.for_sockets(Path("/data"), "valkey.sock", str(long))

    assert directory.parent == Path(short)
    assert mode(directory) == 0o700


def test_a_server_starts_where_the_temporary_directory_is_too_long(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Path(environ["XDG_RUNTIME_DIR"], "x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    with Embedded.private() as server:
        assert server.alive()
