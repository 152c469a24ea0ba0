"""Huey over Redis, through its own command."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey
from redis import ConnectionPool

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import become
from benchmarks.plan import Kind, Plan

PACKAGES = ("huey",)

_plan = plans.current()
# Each thread waits on a connection of its own, and redis-py's pool has 100 by default.
_pool = ConnectionPool.from_url(_plan.broker, max_connections=_plan.slots + 100)
huey = RedisHuey("bench", connection_pool=_pool, results=False)
TASKS: dict[Kind, Any] = {kind: huey.task(name=kind)(body) for kind, body in jobs.BLOCKING.items()}


def _worker(plan: Plan) -> list[str]:
    workers = ["--worker-type", "thread", "--workers", str(plan.slots)]
    return [*workers, "--no-periodic", "--disable-health-check", "--quiet"]


def settings(plan: Plan) -> str:
    return (
        f"{' '.join(_worker(plan))}; results=False, BRPOP (nothing acknowledged); "
        "producer: a loop of calls (it has no bulk call)"
    )


def serve(plan: Plan) -> None:
    become("huey_consumer", f"{__name__}.huey", *_worker(plan))


class Producer:
    def __init__(self, plan: Plan) -> None:
        pass

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        task = TASKS[kind]
        for index in indices:
            task(*jobs.arguments(kind, index, amount))

    def close(self) -> None:
        huey.storage.conn.close()
