"""The thread that renews leases and sees who blocks the event loop.

Purpose: a job that blocks the loop, or a loop too busy to turn, must not cost a worker its leases.
Guarantees: every lease held is extended each quarter of it, and at once when :meth:`Watch.hurry` is
called, as long as this process gets the interpreter at all; a lease that was lost is reported to
the loop once; a job past its deadline is not extended. Assumptions: ``held`` returns a copy and may
be called from this thread.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter
from typing import Any, Final, Protocol

import msgspec
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from twolane import fleet, keys
from twolane.fleet import Heartbeat
from twolane.store import SETTLE_BATCH, Script, batches, renewal
from worker.backoff import Reconnection
from worker.meter import Gauge, Meter

log = logging.getLogger("twolane.worker")

# A hold that people notice as a stall: twice asyncio's own slow_callback_duration would be 0.2 s;
# 0.5 s keeps a busy machine's scheduling out of the log.
BLOCKED_SECONDS: Final = 0.5
TICK_SECONDS: Final = 0.25
RENEWALS_PER_LEASE: Final = 4
# How often it speaks for a loop that is held: as often as the loop itself would.
SPEAK_SECONDS: Final = 1.0


class Held(Protocol):
    """A lease to renew until ``deadline``, on the monotonic clock."""

    id: str
    fence: bytes
    deadline: float


class Watch(threading.Thread):
    """Started with the worker; :meth:`close` ends it."""

    def __init__(
        self,
        client: Redis,
        renew: Script,
        queue: str,
        lease_ms: int,
        held: Callable[[], Sequence[Held]],
        on_lost: Callable[[list[tuple[str, bytes]]], None],
        gauge: Gauge | None,
        beat: Heartbeat,
    ) -> None:
        super().__init__(name="twolane-watch", daemon=True)
        self._client = client
        self._renewal = renew
        self._queue = queue
        self._lease_ms = lease_ms
        self._held = held
        self._on_lost = on_lost
        self._gauge = gauge
        self._beat = beat
        self._loop_thread = threading.get_ident()
        self._closing = False
        self._called = threading.Event()
        self._reported: tuple[Meter, float] | None = None
        self.renewed_at = monotonic()

    def run(self) -> None:
        period = self._lease_ms / RENEWALS_PER_LEASE / 1000
        tick = min(TICK_SECONDS, period) if self._gauge is not None else period
        due = monotonic() + period
        reconnection = Reconnection("renewing leases", self._lease_ms / 2000)
        spoke = 0.0
        while True:
            if self._called.wait(tick):
                self._called.clear()
                due = 0.0
            if self._closing:
                return
            try:
                blocked = self._look_at_loop()
                if blocked and monotonic() > spoke + SPEAK_SECONDS:
                    spoke = monotonic()
                    with contextlib.suppress(RedisError, OSError):  # renewing says it
                        self._speak_for_loop(blocked)
            except Exception:  # whatever it is, the leases are renewed
                log.exception("the look at the event loop failed; looking no more")
                self._gauge = None
            if monotonic() < due:
                continue
            due = monotonic() + period
            try:
                self._renew()
            except (RedisError, OSError) as error:
                due = monotonic() + min(period, reconnection.next_wait(error))
            except Exception:  # without this thread the worker would go on and lose all its leases
                log.exception("renewing leases failed")
            else:
                reconnection.succeeded()
                self.renewed_at = monotonic()

    def is_renewing(self) -> bool:
        """Whether leases were renewed, or there were none to renew, within two periods."""
        return monotonic() - self.renewed_at < self._lease_ms / 2000 + TICK_SECONDS

    def hurry(self) -> None:
        """Renew now: what is held since a moment ago may have little left of its lease."""
        self._called.set()

    def close(self) -> None:
        self._closing = True
        self._called.set()
        if self.ident is not None:  # it was started
            self.join(timeout=5)
        self._client.close()

    def _renew(self) -> None:
        now = monotonic()
        held = [(one.id, one.fence) for one in self._held() if now < one.deadline]
        for batch in batches(held, SETTLE_BATCH):
            lost = {keys.id_of(one) for one in self._call(renewal(batch, self._lease_ms))}
            if lost:
                self._on_lost([one for one in batch if one[0] in lost])

    def _call(self, args: list[Any]) -> list[bytes]:
        # Here and below: redis-py's annotations are those of its two clients, the awaited one too.
        try:
            return self._client.evalsha(self._renewal.sha, 1, self._queue, *args)  # type: ignore[return-value]
        except NoScriptError:
            return self._client.eval(self._renewal.text, 1, self._queue, *args)  # type: ignore[return-value]

    def _speak_for_loop(self, blocked_by: str) -> None:
        """Send the heartbeat that the blocked loop cannot: a worker that is held is not dead."""
        seconds, micros = self._client.time()  # type: ignore[misc]
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        beat = msgspec.structs.replace(self._beat, blocked_by=blocked_by, at_ms=now_ms)
        self._client.set(keys.worker(beat.worker), fleet.encode(beat), px=fleet.KEEP_MS)
        for key in (keys.WORKERS, keys.lane_workers(beat.lane)):
            self._client.zadd(key, {beat.worker: now_ms + fleet.KEEP_MS})

    def _look_at_loop(self) -> str | None:
        """Name the job that has held the loop for too long, with the line where it is now."""
        gauge = self._gauge
        if gauge is None:
            return None
        meter, began = gauge.current, gauge.began
        if meter is None or perf_counter() - began < BLOCKED_SECONDS:
            return None
        if self._reported == (meter, began):
            return f"{meter.name} at {meter.blocked_at}"
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None or gauge.current is not meter or gauge.began != began:
            return None  # it moved on while we looked
        self._reported = (meter, began)
        at = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        meter.blocked_at = keys.shown_id(at)  # a folder's name need not be text
        log.warning(
            "job %s has held the event loop for %.1f s, at %s; computing belongs in a plain `def`",
            meter.name, perf_counter() - began, meter.blocked_at,
        )  # fmt: skip
        return f"{meter.name} at {meter.blocked_at}"
