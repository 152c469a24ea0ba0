"""What the tests share: a real Valkey, and processes that are sure to end."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from twolane.broker import connect
from twolane.embedded import Embedded

# A machine that is busy with something else is no failure of an example.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked compose run only where ``-m`` names them: they need Docker, and minutes."""
    if "compose" in config.getoption("-m"):
        return
    left_out = [item for item in items if item.get_closest_marker("compose")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes what belongs to the person who runs it."""
    for name in [
        name for name in os.environ if name.startswith("TWOLANE_") and name != "TWOLANE_CI_RUN"
    ]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home", numbered=True)
    monkeypatch.setenv("TWOLANE_HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a real Valkey of this test process's own."""
    with Embedded.private() as server:
        yield server.url


@pytest.fixture
def broker(valkey: str) -> str:
    """The URL of an empty real Valkey."""
    from twolane.broker import connect_blocking

    client = connect_blocking(valkey)
    client.flushall()
    client.close()
    return valkey


@pytest.fixture
async def client(broker: str) -> AsyncIterator[Redis]:
    made = connect(broker)
    yield made
    await made.aclose()


async def wait_until(
    condition: Callable[[], Awaitable[Any] | Any], what: str, seconds: float = 15.0
) -> Any:
    """Look again and again until ``condition`` answers something true; that answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.01)


@pytest.fixture
def here() -> Path:
    return Path(__file__).parent
