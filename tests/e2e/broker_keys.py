"""What workers hold in the broker."""

from __future__ import annotations

from redis.asyncio import Redis

from twolane import keys


async def held(client: Redis) -> list[bytes]:
    return [key async for key in client.scan_iter(keys.IN_PROGRESS_PREFIX + "*")]
