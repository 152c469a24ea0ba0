"""Celery over Redis, with its threads or its prefork pool, through its own command."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import become
from benchmarks.plan import Kind, Plan

PACKAGES = ("celery", "kombu", "billiard")

_plan = plans.current()
# Celery's guide: a large number for short tasks, "say 64, or 128"; its default is 4.
PREFETCH = int(_plan.options.get("prefetch", 128))

app = Celery("bench", broker=_plan.broker)
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=PREFETCH,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    task_default_delivery_mode="transient",
    broker_connection_retry_on_startup=True,
)
TASKS: dict[Kind, Any] = {
    kind: app.task(body, name=f"bench.{kind}") for kind, body in jobs.BLOCKING.items()
}


def _worker(plan: Plan) -> list[str]:
    pool = str(plan.options.get("pool", "prefork"))
    return [
        "--pool", pool, "--concurrency", str(plan.slots), "--loglevel", "WARNING",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip


def settings(plan: Plan) -> str:
    return (
        f"{' '.join(_worker(plan))}; task_ignore_result, worker_prefetch_multiplier={PREFETCH}, "
        "acknowledged before it runs (its default), transient delivery, rate limits off; "
        "producer: apply_async() with kombu's publish batch"
    )


def serve(plan: Plan) -> None:
    become("celery", "--app", __name__, "worker", *_worker(plan))


class Producer:
    def __init__(self, plan: Plan) -> None:
        self._connection = app.connection_for_write()
        self._producer = app.amqp.Producer(self._connection)

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        task = TASKS[kind]
        for batch in jobs.batches(indices, 1_000):
            with self._producer.batch():
                for index in batch:
                    task.apply_async(jobs.arguments(kind, index, amount), producer=self._producer)

    def close(self) -> None:
        self._connection.release()
