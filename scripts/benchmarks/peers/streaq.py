"""streaq, through its own command."""

from __future__ import annotations

import asyncio
from typing import Any

from streaq import Worker

from benchmarks import jobs
from benchmarks import plan as plans
from benchmarks.peers import AsyncProducer, become
from benchmarks.plan import Kind, Plan

PACKAGES = ("streaq", "coredis", "anyio")
BATCH = 1_000

_plan = plans.current()
worker = Worker(
    redis_url=_plan.broker,
    concurrency=_plan.slots,
    anyio_kwargs={"use_uvloop": True},
)
_options: dict[str, Any] = {"ttl": 0, "silent": True}
TASKS: dict[Kind, Any] = {
    "noop": worker.task(jobs.noop, name="noop", **_options),
    "wait": worker.task(jobs.wait, name="wait", **_options),
}


def settings(plan: Plan) -> str:
    return (
        f"concurrency={plan.slots} (prefetch the same, its default), ttl=0 (no results), "
        f"silent=True, uvloop; producer: enqueue_many() of {BATCH:,}"
    )


def serve(plan: Plan) -> None:
    become("streaq", "run", f"{__name__}:worker")


class Producer(AsyncProducer):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._commands: asyncio.Queue[Any] = asyncio.Queue()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._session: asyncio.Task[None] = self.runner.get_loop().create_task(self._serve())

    async def _serve(self) -> None:
        # anyio wants a context entered and left in one task.
        async with worker:
            while (command := await self._commands.get()) is not None:
                kind, indices, amount = command
                for batch in jobs.batches(indices, BATCH):
                    made = [
                        TASKS[kind].enqueue(*jobs.arguments(kind, index, amount)) for index in batch
                    ]
                    await worker.enqueue_many(made)
                await self._answers.put(None)

    async def put(self, kind: Kind, indices: range, amount: float) -> None:
        await self._commands.put((kind, indices, amount))
        answer = asyncio.ensure_future(self._answers.get())
        await asyncio.wait({answer, self._session}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self._session.result()

    def close(self) -> None:
        async def leave() -> None:
            await self._commands.put(None)
            await self._session

        self.runner.run(leave())
        self.runner.close()
