"""Dask's LocalCluster: a scheduler and processes of one thread each."""

from __future__ import annotations

from typing import Any

from distributed import Client, LocalCluster, wait

from benchmarks import jobs
from benchmarks.plan import Kind, Plan

PACKAGES = ("distributed", "dask")


def settings(plan: Plan) -> str:
    return (
        f"LocalCluster(n_workers={plan.slots}, threads_per_worker=1, dashboard_address=None), "
        "one map() for all, pure=False"
    )


def serve(plan: Plan) -> None:
    raise NotImplementedError("there is no queue")


class Producer:
    def __init__(self, plan: Plan) -> None:
        self._cluster: Any = LocalCluster(
            n_workers=plan.slots, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        )
        self._client: Any = Client(self._cluster)

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        loops = [int(amount)] * len(indices)
        wait(self._client.map(jobs.compute, list(indices), loops, pure=False))

    def close(self) -> None:
        self._client.close()
        self._cluster.close()
