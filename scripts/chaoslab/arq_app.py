"""An application made for arq, whose jobs write the ledger; run by ``twolane arq``."""

from __future__ import annotations

import os
from typing import Any

from arq.connections import RedisSettings

from chaoslab import jobs


async def nap(ctx: dict[str, Any], key: str, seconds: float) -> int:
    """As in :mod:`chaoslab.jobs`; returns the worker's pid, which arq's results do not have."""
    await jobs.nap(ctx, key, seconds)
    return os.getpid()


async def hold(ctx: dict[str, Any], key: str, go: str) -> int:
    await jobs.hold(ctx, key, go)
    return os.getpid()


class WorkerSettings:
    functions = (nap, hold)
    max_jobs = 20
    redis_settings = RedisSettings.from_dsn(os.environ.get("TWOLANE_BROKER", "redis://"))
