"""Dramatiq over Redis, through its own command."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import ConnectionPool, Redis

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import become
from benchmarks.plan import Kind, Plan

PACKAGES = ("dramatiq",)

_plan = plans.current()
# Each thread may need a connection of its own, and redis-py's pool has 100 by default.
_pool = ConnectionPool.from_url(_plan.broker, max_connections=_plan.slots + 100)
broker = RedisBroker(client=Redis(connection_pool=_pool))
dramatiq.set_broker(broker)
ACTORS: dict[Kind, Any] = {
    kind: dramatiq.actor(body, actor_name=kind) for kind, body in jobs.BLOCKING.items()
}


def _prefetch(plan: Plan) -> int:
    return max(1_000, 2 * plan.slots)


def settings(plan: Plan) -> str:
    return (
        f"--processes 1 --threads {plan.slots}, dramatiq_queue_prefetch={_prefetch(plan)}, "
        "no results, its default middleware; producer: a loop of enqueue() (it has no bulk call)"
    )


def serve(plan: Plan) -> None:
    os.environ["dramatiq_queue_prefetch"] = str(_prefetch(plan))  # noqa: SIM112 # its name
    become("dramatiq", __name__, "--processes", 1, "--threads", plan.slots)


class Producer:
    def __init__(self, plan: Plan) -> None:
        pass

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        actor = ACTORS[kind]
        for index in indices:
            broker.enqueue(actor.message(*jobs.arguments(kind, index, amount)))

    def close(self) -> None:
        broker.close()
