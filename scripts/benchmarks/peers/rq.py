"""RQ, through its own command."""

from __future__ import annotations

from redis import Redis
from rq import Queue

from benchmarks import jobs
from benchmarks.peers import become
from benchmarks.plan import Kind, Plan

PACKAGES = ("rq",)
BATCH = 1_000


def settings(plan: Plan) -> str:
    return (
        "SimpleWorker (no fork: the faster one, one job at a time), --results-ttl 0, "
        "--disable-job-desc-logging, --logging_level WARNING; "
        f"producer: enqueue_many() of {BATCH:,}"
    )


def serve(plan: Plan) -> None:
    become(
        "rq", "worker", "--url", plan.broker, "--worker-class", "rq.worker.SimpleWorker",
        "--results-ttl", 0, "--disable-job-desc-logging", "--logging_level", "WARNING",
    )  # fmt: skip


class Producer:
    def __init__(self, plan: Plan) -> None:
        self._redis = Redis.from_url(plan.broker)
        self._queue = Queue(connection=self._redis)

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        body = jobs.BLOCKING[kind]
        for batch in jobs.batches(indices, BATCH):
            self._queue.enqueue_many(
                [
                    Queue.prepare_data(body, jobs.arguments(kind, index, amount), result_ttl=0)
                    for index in batch
                ]
            )

    def close(self) -> None:
        self._redis.close()
