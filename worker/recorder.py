"""Turns an attempt that ended into the record that the store keeps of it."""

from __future__ import annotations

import asyncio

import msgspec

from twolane import keys, outcome, wire
from twolane.keys import QUEUES, Lane
from twolane.outcome import EMPTY_LIST, EMPTY_MAP, Outcome
from twolane.store import Kind, Settlement
from worker.attempt import Attempt, Ended

# arq's default for results of functions that it does not know.
KEEP_UNKNOWN_SECONDS = 3600.0


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
        record = Outcome(
            try_=attempt.try_,
            function=payload.function if payload else "?",
            args=args,
            kwargs=kwargs,
            enqueued_ms=payload.enqueued_ms if payload else attempt.due_ms,
            success=kind == "done",
            result=msgspec.Raw(result),
            started_ms=attempt.started_ms,
            finished_ms=attempt.started_ms + round(ended.run_seconds * 1000),
            queue=self._queue,
            id=keys.shown_id(attempt.id),
            run=keys.shown_id(attempt.run) or None,
            lane=self._lane,
            worker=self._worker,
            wait_ms=max(0, attempt.started_ms - attempt.due_ms),
            run_seconds=ended.run_seconds,
            cpu_seconds=ended.cpu_seconds,
            hold_seconds=ended.hold_seconds,
            memory_bytes=ended.memory_bytes,
            blocked_at=ended.blocked_at,
            cancelled=kind == "cancelled",
        )
        whole, entry = outcome.encode(record)
        keep = job.keep_result if job else KEEP_UNKNOWN_SECONDS
        keep_ms = -1 if keep is None else int(keep * 1000)
        return Settlement(
            attempt.id, attempt.fence, whole, keep_ms, kind, record.function, attempt.run, entry
        )


def one_line(text: str) -> str:
    """Untrusted text for the log: one line, cut, nothing that a terminal would act on."""
    cut = text if len(text) <= 200 else text[:199] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)
