"""taskiq with taskiq-redis, through its own command."""

from __future__ import annotations

from typing import Any

from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import AsyncProducer, become, send_all
from benchmarks.plan import Kind, Plan

PACKAGES = ("taskiq", "taskiq-redis", "orjson")

_plan = plans.current()
_stream = bool(_plan.options.get("stream"))
if _stream:
    broker = RedisStreamBroker(_plan.broker, consumer_id="0", xread_count=100)
else:
    broker = ListQueueBroker(_plan.broker)
broker = broker.with_serializer(ORJSONSerializer())
TASKS: dict[Kind, Any] = {
    "noop": broker.register_task(jobs.noop, "noop"),
    "wait": broker.register_task(jobs.wait, "wait"),
    "compute": broker.register_task(jobs.compute, "compute"),
}


def _worker(plan: Plan) -> list[str]:
    pool = ["--use-process-pool", "--max-process-pool-processes", str(plan.slots)]
    # A process pool is kept busy by more calls than it has processes.
    at_once = plan.slots * 4 if plan.compute else plan.slots
    return [
        "--workers", "1", "--max-async-tasks", str(at_once), "--max-prefetch", "100",
        "--no-parse", "--log-level", "WARNING", *(pool if plan.compute else ()),
    ]  # fmt: skip


def settings(plan: Plan) -> str:
    kind = (
        "RedisStreamBroker, xread_count=100"
        if _stream
        else "ListQueueBroker (BRPOP, nothing acknowledged)"
    )
    return (
        f"{kind}, no result backend, orjson, uvloop; {' '.join(_worker(plan))}; "
        "producer: 32 kiq() at once"
    )


def serve(plan: Plan) -> None:
    become("taskiq", "worker", f"{__name__}:broker", *_worker(plan))


class Producer(AsyncProducer):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.runner.run(broker.startup())

    async def put(self, kind: Kind, indices: range, amount: float) -> None:
        task = TASKS[kind]

        def send(index: int) -> Any:
            return task.kiq(*jobs.arguments(kind, index, amount))

        await send_all(send, indices)

    def close(self) -> None:
        self.runner.run(broker.shutdown())
        self.runner.close()
