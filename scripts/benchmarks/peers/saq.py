"""SAQ, through its own command."""

from __future__ import annotations

from typing import Any

import uvloop
from saq import Queue

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import AsyncProducer, become, send_all
from benchmarks.plan import Kind, Plan

PACKAGES = ("saq",)
NAMES = {"noop": ("index",), "wait": ("index", "seconds")}


def settings(plan: Plan) -> str:
    return (
        f"concurrency={plan.slots}, ttl=-1 (no results), uvloop; producer: 32 enqueue() at once, "
        "max_concurrent_ops=32"
    )


async def noop(ctx: Any, *, index: int) -> None:
    jobs.mark(index)


async def wait(ctx: Any, *, index: int, seconds: float) -> None:
    await jobs.wait(index, seconds)


def _queue(plan: Plan) -> Any:
    return Queue.from_url(plan.broker, max_concurrent_ops=max(32, plan.slots))


def __getattr__(name: str) -> Any:
    if name == "worker_settings":
        uvloop.install()
        plan = plans.current()
        return {"queue": _queue(plan), "functions": [noop, wait], "concurrency": plan.slots}
    raise AttributeError(name)


def serve(plan: Plan) -> None:
    become("saq", f"{__name__}.worker_settings")


class Producer(AsyncProducer):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._queue = _queue(Plan(plan.broker, 32))
        self.runner.run(self._queue.connect())

    async def put(self, kind: Kind, indices: range, amount: float) -> None:
        names = NAMES[kind]

        def send(index: int) -> Any:
            named = dict(zip(names, jobs.arguments(kind, index, amount), strict=True))
            return self._queue.enqueue(kind, ttl=-1, **named)

        await send_all(send, indices)

    def close(self) -> None:
        self.runner.run(self._queue.disconnect())
        self.runner.close()
