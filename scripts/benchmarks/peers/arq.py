"""arq, with its defaults or tuned (option ``tuned``)."""

from __future__ import annotations

from typing import Any

import uvloop
from arq.connections import ArqRedis, RedisSettings, create_pool

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import AsyncProducer, become, send_all
from benchmarks.plan import Kind, Plan

PACKAGES = ("arq",)
QUIET = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
TUNED: dict[str, Any] = {"queue_read_limit": 1000, "poll_delay": 0.05, "keep_result": 0}


def settings(plan: Plan) -> str:
    if not plan.options.get("tuned"):
        return f"defaults; max_jobs={plan.slots}; producer: 32 enqueue_job() at once"
    tuned = ", ".join(f"{name}={value}" for name, value in TUNED.items())
    return f"{tuned}, max_jobs={plan.slots}, uvloop, no log lines; producer: as arq"


async def noop(ctx: dict[str, Any], index: int) -> None:
    jobs.mark(index)


async def wait(ctx: dict[str, Any], index: int, seconds: float) -> None:
    await jobs.wait(index, seconds)


def worker_settings(plan: Plan) -> type:
    # arq reads only a settings class's own attributes.
    own: dict[str, Any] = {
        "functions": [noop, wait],
        "redis_settings": RedisSettings.from_dsn(plan.broker),
        "max_jobs": plan.slots,
    }
    if plan.options.get("tuned"):
        uvloop.install()
        own.update(TUNED)
    return type("WorkerSettings", (), own)


def __getattr__(name: str) -> Any:
    if name == "WorkerSettings":
        return worker_settings(plans.current())
    raise AttributeError(name)


def serve(plan: Plan) -> None:
    quiet = ("--custom-log-dict", f"{__name__}.QUIET") if plan.options.get("tuned") else ()
    become("arq", *quiet, f"{__name__}.WorkerSettings")


class Producer(AsyncProducer):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        connecting = create_pool(RedisSettings.from_dsn(plan.broker))
        self._pool: ArqRedis = self.runner.run(connecting)

    async def put(self, kind: Kind, indices: range, amount: float) -> None:
        def send(index: int) -> Any:
            return self._pool.enqueue_job(kind, *jobs.arguments(kind, index, amount))

        await send_all(send, indices)

    def close(self) -> None:
        self.runner.run(self._pool.aclose())
        self.runner.close()
