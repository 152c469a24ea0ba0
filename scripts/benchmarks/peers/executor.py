"""The standard library's ProcessPoolExecutor. No queue: nothing outlives the process."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, wait

from benchmarks import jobs
from benchmarks.plan import Kind, Plan

PACKAGES = ()


def settings(plan: Plan) -> str:
    return f"ProcessPoolExecutor(max_workers={plan.slots}), one submit() a job"


def serve(plan: Plan) -> None:
    raise NotImplementedError("there is no queue")


class Producer:
    def __init__(self, plan: Plan) -> None:
        self._pool = ProcessPoolExecutor(plan.slots)

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        loops = int(amount)
        wait([self._pool.submit(jobs.compute, index, loops) for index in indices])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
