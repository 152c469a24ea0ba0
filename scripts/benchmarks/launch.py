"""Runs one side of a contestant inside that contestant's own environment.

    python -m benchmarks.launch serve NAME      a worker, until SIGTERM
    python -m benchmarks.launch produce NAME    a producer, told what to do on standard input
    python -m benchmarks.launch describe NAME   versions and settings, as JSON

The plan is in the environment. A producer reads one JSON object a line and answers with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import platform
import signal
import sys
import time
from importlib import metadata
from typing import IO, Any

from benchmarks import plan
from benchmarks.peers import AsyncProducer, Peer, Producer

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Have the kernel end this process when the harness is killed; Linux alone."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def describe(peer: Peer, current: plan.Plan) -> dict[str, Any]:
    versions = {}
    for package in (*peer.PACKAGES, "redis", "hiredis", "uvloop"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "versions": versions,
        "settings": peer.settings(current),
        "python": platform.python_version(),
    }


def produce(producer: Producer, commands: IO[str], answers: IO[str]) -> None:
    def answer(**words: Any) -> None:
        print(json.dumps(words), file=answers, flush=True)

    answer(ready=True)
    for line in commands:
        command = json.loads(line)
        indices = range(command["first"], command["first"] + command["count"])
        kind, amount = command["kind"], command["amount"]
        if interval := command.get("interval"):
            answer(intended_ns=pace(producer, indices, interval))
        else:
            began = time.monotonic_ns()
            producer.enqueue(kind, indices, amount)
            answer(seconds=(time.monotonic_ns() - began) / 1e9)


def pace(producer: Producer, indices: range, interval: float) -> list[int]:
    """Enqueue no-op jobs one by one at a fixed rate, an open loop; the intended times.

    A send that is late does not move the ones after it: what a job waited counts from the time
    at which it should have been sent (Tene, *How NOT to Measure Latency*, 2013).
    """
    start = time.monotonic_ns() + 50_000_000
    intended = [start + int(number * interval * 1e9) for number in range(len(indices))]
    calls = list(zip(indices, intended, strict=True))
    if isinstance(producer, AsyncProducer):
        producer.runner.run(_pace_in_loop(producer, calls))
        return intended
    for index, due in calls:
        _sleep_until(due)
        producer.enqueue("noop", range(index, index + 1), 0)
    return intended


async def _pace_in_loop(producer: AsyncProducer, calls: list[tuple[int, int]]) -> None:
    """As an application's event loop would; its own timers are too coarse for the beat, 1 ms."""
    for index, due in calls:
        await asyncio.sleep(0)
        _sleep_until(due)
        await producer.put("noop", range(index, index + 1), 0)


def _sleep_until(due: int) -> None:
    time.sleep(max(0, due - time.monotonic_ns()) / 1e9)


def main(side: str, name: str) -> None:
    die_with_parent()
    peer: Peer = importlib.import_module(f"benchmarks.peers.{name}")
    current = plan.current()
    if side == "describe":
        print(json.dumps(describe(peer, current)))
    elif side == "serve":
        peer.serve(current)
    else:
        # What a library prints must not get between the answers.
        answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with contextlib.closing(peer.Producer(current)) as producer:
            produce(producer, sys.stdin, answers)


if __name__ == "__main__":
    main(*sys.argv[1:3])
