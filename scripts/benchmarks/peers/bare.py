"""Bare cores: independent processes, each with its share of the work. No queue, no pool."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

from benchmarks import jobs
from benchmarks.plan import Kind, Plan

PACKAGES = ()


def settings(plan: Plan) -> str:
    return f"{plan.slots} processes, each told its share of the jobs once"


def serve(plan: Plan) -> None:
    raise NotImplementedError("there is no queue")


def _share(orders: Connection) -> None:
    while (order := orders.recv()) is not None:
        indices, amount = order
        for index in indices:
            jobs.compute(index, amount)
        orders.send(None)


class Producer:
    def __init__(self, plan: Plan) -> None:
        self._ends: list[Connection] = []
        for _ in range(plan.slots):
            ours, theirs = multiprocessing.Pipe()
            multiprocessing.Process(target=_share, args=(theirs,), daemon=True).start()
            self._ends.append(ours)

    def enqueue(self, kind: Kind, indices: range, amount: float) -> None:
        for number, end in enumerate(self._ends):
            end.send((indices[number :: len(self._ends)], int(amount)))
        for end in self._ends:
            end.recv()

    def close(self) -> None:
        for end in self._ends:
            end.send(None)
