"""One attempt at one job, from its claim to its settlement."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any

from twolane import wire
from twolane.errors import BadArguments, JobFailure
from twolane.registry import Job
from twolane.store import ClaimedJob
from twolane.wire import ErrorRecord, Payload


class Verdict(Enum):
    """Why an attempt is stopped from outside; whatever its job then does is of no account."""

    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    RELEASED = "released"
    LOST = "lost"


class Attempt:
    """A claimed job on its way. ``started`` and ``deadline`` are on the monotonic clock, s."""

    __slots__ = (
        "claimed", "deadline", "due_ms", "fence", "handle", "id", "job", "payload",
        "started", "started_ms", "timer", "try_", "verdict",
    )  # fmt: skip

    def __init__(self, claimed: ClaimedJob, now_ms: int) -> None:
        self.id = claimed.id
        self.fence = claimed.fence
        self.try_ = claimed.try_
        self.due_ms = claimed.due_ms
        self.started_ms = now_ms
        self.started = 0.0
        # Until the job is known it has no timeout; it is then renewed as long as it is held.
        self.deadline = float("inf")
        self.payload: Payload | None = None
        self.job: Job | None = None
        self.verdict: Verdict | None = None
        self.handle: asyncio.Future[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def run(self) -> str:
        """The run that the job belongs to, or ''."""
        if self.payload is not None:
            return self.payload.run or ""
        # The payload is gone or unreadable. A run's own ids are its name and a number; where this
        # is not one, no such run exists and the store writes nothing.
        return self.id.rpartition("-")[0]


@dataclass(slots=True)
class Ended:
    """How an attempt ended. ``result`` is MessagePack; ``error`` is None where it succeeded.

    ``retryable`` is False for failures that the next try would meet again, such as an unknown
    function. ``retry_in`` is set where the job itself asked for another try, s.
    """

    result: bytes = b"\xc0"
    error: ErrorRecord | None = None
    retryable: bool = True
    retry_in: float | None = None
    run_seconds: float = 0.0
    cpu_seconds: float = 0.0
    hold_seconds: float = 0.0
    memory_bytes: int = 0
    blocked_at: str | None = None

    @classmethod
    def before_start(cls, error: Exception) -> Ended:
        """The end by what was raised on the way to the start, a job's own code included."""
        retryable = not isinstance(error, (JobFailure, BadArguments))
        return cls(error=wire.error_record(error), retryable=retryable)
