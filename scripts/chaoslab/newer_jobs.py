"""What a newer version of the code has and an older one has not."""

from __future__ import annotations

from typing import Any

from chaoslab import ledger
from twolane import job


@job
async def added_later(ctx: dict[str, Any], key: str) -> str:
    ledger.write("start", key, int(ctx["job_try"]))
    ledger.write("effect", key, int(ctx["job_try"]))
    return key
