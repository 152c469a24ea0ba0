"""Decides whether a claimed job can run on this worker, and fills in what it runs."""

from __future__ import annotations

from twolane import wire
from twolane.errors import (
    ExpiredPayload,
    JobCancelled,
    PayloadTooLarge,
    TriesExhausted,
    UnknownFunction,
    WrongLane,
)
from twolane.keys import QUEUES, Lane
from twolane.registry import Job, Registry
from twolane.store import ClaimedJob
from worker.attempt import Attempt, Verdict


class Admission:
    """What this worker's lane and modules can run.

    ``max_tries`` is how often a job is tried at the most when its workers die under it; a job with
    more retries of its own gets those.
    """

    def __init__(self, registry: Registry, lane: Lane, max_tries: int) -> None:
        self._registry = registry
        self._lane = lane
        self._max_tries = max_tries

    def tries(self, job: Job | None) -> int:
        """How many tries a job gets in all."""
        return max(self._max_tries, job.retries + 1 if job else 1)

    def is_last_chance(self, attempt: Attempt) -> bool:
        """Whether workers have died under the job so often that one more ends it.

        Where a job's own retries take it that far, nothing is known of any death.
        """
        if attempt.try_ < self._max_tries:
            return False
        job = attempt.job
        return job is not None and attempt.try_ >= self.tries(job) > job.retries + 1

    def admit(self, attempt: Attempt, claimed: ClaimedJob) -> None:
        """Fill in what the attempt runs.

        Raises:
            JobFailure: it cannot run here; the class says why.
        """
        if claimed.payload is None:
            raise ExpiredPayload("the payload was gone when the job was claimed")
        if len(claimed.payload) > wire.MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(
                f"the payload takes {len(claimed.payload):,} bytes; "
                f"the limit is {wire.MAX_PAYLOAD_BYTES:,}"
            )
        attempt.payload = payload = wire.load_payload(claimed.payload)
        if claimed.abort:
            attempt.verdict = Verdict.CANCELLED
            raise JobCancelled("cancelled before it started")
        job = self._registry.get(payload.function)
        if job is None:
            known = ", ".join(sorted(one.name for one in self._registry))
            raise UnknownFunction(
                f"this worker has no job {payload.function!r}; it knows {known}. Start it with "
                "--jobs naming the module, then `twolane dead retry`"
            )
        attempt.job = job
        if job.lane != self._lane:
            raise WrongLane(
                f"{job.name!r} is a job of the {job.lane} lane, and came by {QUEUES[self._lane]}; "
                f"enqueue it on {job.queue}"
            )
        if payload.try_ and payload.try_ > attempt.try_:
            attempt.try_ = payload.try_  # arq's _job_try
        if attempt.try_ > self._max_tries and attempt.try_ > self.tries(job):
            raise TriesExhausted(
                f"given up at try {attempt.try_} of {self.tries(job)}: earlier workers died with "
                "it, or it was retried as often"
            )
