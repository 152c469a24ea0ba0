"""The user's own server, in a home of the test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from twolane.embedded import Embedded


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A home and a runtime directory of the test's own, short enough for a socket."""
    root = tempfile.mkdtemp(prefix="tl-", dir="/tmp")
    mine = {"TWOLANE_HOME": f"{root}/home", "XDG_RUNTIME_DIR": root}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    yield mine
    shutil.rmtree(root)


@pytest.fixture
def server(environ: dict[str, str]) -> Iterator[Embedded]:
    made = Embedded.for_user("always", environ)
    yield made
    made.stop()
