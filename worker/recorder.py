"""Turns an attempt that ended into the record that the store keeps of it."""

from __future__ import annotations

import asyncio

import msgspec

from twolane import keys, outcome, wire
from twolane.keys import QUEUES, Lane
from twolane.outcome import EMPTY_LIST, EMPTY_MAP, NIL, Outcome
from twolane.store import Kind, Settlement
from worker.attempt import Attempt, Ended

# arq's default for results of functions that it does not know.
KEEP_UNKNOWN_SECONDS = 3600.0
# The server refuses a time to live beyond its 64 bits, and all that is told with it.
MAX_KEEP_MS = 10**15


class Recorder:
    """Signs the records of one worker."""

    def __init__(self, lane: Lane, worker: str) -> None:
        self._lane = lane
        self._worker = worker
        self._queue = QUEUES[lane]

    def settlement(self, attempt: Attempt, ended: Ended, kind: Kind) -> Settlement:
        payload, job = attempt.payload, attempt.job
        args, kwargs = EMPTY_LIST, EMPTY_MAP
        # A job that succeeded has read its arguments; others may have some that nobody can read,
        # and then no one could read the record, nor the run that it belongs to.
        if payload and (kind == "done" or wire.is_readable(payload)):
            args, kwargs = payload.args, payload.kwargs
        if kind == "cancelled":
            result = wire.dumps(asyncio.CancelledError("cancelled"))
        elif ended.error is not None:
            result = wire.dumps_error(ended.error)
        else:
            result = ended.result
        run = attempt.run
        # By position, which takes half the time: this is done once a job.
        record = Outcome(
            attempt.try_,
            payload.function if payload else "?",
            args,
            kwargs,
            payload.enqueued_ms if payload else attempt.due_ms,
            kind == "done",
            NIL if result == NIL else msgspec.Raw(result),
            attempt.started_ms,
            attempt.started_ms + round(ended.run_seconds * 1000),
            self._queue,
            keys.shown_id(attempt.id),
            keys.shown_id(run) or None,
            self._lane,
            self._worker,
            max(0, attempt.started_ms - attempt.due_ms),
            ended.run_seconds,
            ended.cpu_seconds,
            ended.hold_seconds,
            ended.memory_bytes,
            ended.blocked_at,
            kind == "cancelled",
        )
        whole, entry = outcome.encode(record)
        keep = job.keep_result if job else KEEP_UNKNOWN_SECONDS
        keep_ms = -1 if keep is None else min(int(keep * 1000), MAX_KEEP_MS)
        name = wire.shortened(record.function)
        return Settlement(attempt.id, attempt.fence, whole, keep_ms, kind, name, run, entry)


def one_line(text: str) -> str:
    """Untrusted text for the log: one line, cut, nothing that a terminal would act on."""
    cut = text if len(text) <= 200 else text[:199] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)
