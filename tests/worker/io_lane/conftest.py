"""A lane that knows the jobs of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.worker.io_lane.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.lane.close()
