"""The workers that live now, by their heartbeats."""

from __future__ import annotations

from typing import Final

import msgspec
from redis.asyncio import Redis

from twolane import keys, wire

# A worker that died disappears within the default lease.
KEEP_MS: Final = 10_000


class Heartbeat(msgspec.Struct, omit_defaults=True):
    """What a worker publishes once a second.

    ``slots`` is how many jobs it runs at once, ``busy`` how many it runs now; the counters are
    since its start. ``cpu_share`` is in cores, ``loop_lag_ms`` how late its event loop was.
    ``fleet`` is how many workers its lane has, as far as it knows, itself included.
    ``blocked_by`` names the job that holds the loop now, and where, if one does for too long.
    ``wait`` and ``run`` are buckets of :mod:`twolane.histogram` with all jobs since its start.
    Times in ms are the server's clock.
    """

    worker: str
    lane: str
    host: str
    pid: int
    slots: int = 0
    busy: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    fenced: int = 0
    draining: bool = False
    fleet: int = 1
    blocked_by: str = ""
    loop_lag_ms: float = 0.0
    cpu_share: float = 0.0
    memory_bytes: int = 0
    started_ms: int = 0
    at_ms: int = 0
    version: str = ""
    wait: dict[int, int] = {}
    run: dict[int, int] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Heartbeat)


def encode(beat: Heartbeat) -> bytes:
    return _encoder.encode(beat)


async def workers(client: Redis) -> list[Heartbeat]:
    """The workers heard of within the last 10 s, by lane and name."""
    seconds, micros = await client.time()
    now_ms = seconds * 1000 + micros // 1000
    names = [one.decode() for one in await client.zrangebyscore(keys.WORKERS, now_ms, "+inf")]
    if not names:
        return []
    beats = await client.mget([keys.worker(name) for name in names])
    alive = [wire.guarded(_decoder, beat, "not a heartbeat") for beat in beats if beat]
    return sorted(alive, key=lambda beat: (beat.lane, beat.worker))
