"""twolane: this project, all guarantees on, results recorded."""

from __future__ import annotations

import os
import sys

from benchmarks.jobs import arguments
from benchmarks.peers import AsyncProducer, twolane_jobs
from benchmarks.plan import Kind, Plan
from producer.submit import Caller, submit
from twolane import broker
from twolane.channel import Channel
from twolane.registry import Registry

PACKAGES = ("twolane", "arq", "msgspec")
NAMES = {"noop": ("index",), "wait": ("index", "seconds"), "compute": ("index", "loops")}


def settings(plan: Plan) -> str:
    return (
        f"{' '.join(_worker(plan)[2:7])}; nothing else set: results kept for an hour, leases of "
        "10 s with fencing, metering, heartbeats; producer: one submit() for all, over a channel"
    )


def _worker(plan: Plan) -> list[str]:
    lane = ("cpu", "--processes") if plan.compute else ("io", "--concurrency")
    quiet = ("--log-level", "warning")
    jobs = ("--jobs", twolane_jobs.__name__)
    return ["-m", "worker", *lane, str(plan.slots), *quiet, *jobs]


def serve(plan: Plan) -> None:
    os.environ["TWOLANE_BROKER"] = plan.broker
    os.execv(sys.executable, [sys.executable, *_worker(plan)])


class Producer(AsyncProducer):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._client = broker.connect(plan.broker)
        self._channel = Channel(self._client)
        self._caller = Caller(Registry.load([twolane_jobs.__name__]))

    async def put(self, kind: Kind, indices: range, amount: float) -> None:
        names = NAMES[kind]
        calls = [
            self._caller.call(kind, dict(zip(names, arguments(kind, index, amount), strict=True)))
            for index in indices
        ]
        await submit(self._client, calls, "bench", channel=self._channel)

    def close(self) -> None:
        self.runner.run(self._channel.aclose())
        self.runner.run(self._client.aclose())
        self.runner.close()
