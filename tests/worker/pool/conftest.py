"""A pool of two processes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.worker.pool.running import MODULES
from worker.pool import Pool


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(2, MODULES) as pool:
        yield pool
