"""What befalls the connections to the server: they are cut, slow, or silent."""

from __future__ import annotations

import time

from chaoslab.catalog import fault
from chaoslab.lab import Lab
from chaoslab.load import Load, start_workers
from chaoslab.proxy import Proxy, Where
from twolane.broker import connect


def _cutting(name: str, where: Where, what: str, promise: str) -> None:
    async def inject(lab: Lab) -> None:
        async with Proxy(lab.server.port) as proxy:
            proxy.cut_at_random(lab.random, 0.1, where)
            await start_workers(lab, 2, url=proxy.url)
            client = connect(proxy.url)
            load = Load(lab, client)
            await lab.wait_recorded(1000, 40)
            count = await load.stop()
            await lab.settle()
            await client.aclose()
            await lab.fleet.stop()
            # A lease of so short a job is seldom renewed.
            spared = {"enqueue", "claim", "acknowledge"} - set(proxy.cuts)
            lab.check(not spared, f"no call of {', '.join(sorted(spared))} was cut")
            lab.check(proxy.cut > 10, f"only {proxy.cut} calls were cut")
            lab.note(f"{proxy.cut} calls cut, {count} jobs")

    fault(name, "Valkey", what, promise, deadline=30)(inject)


_cutting(
    "cut-before-the-script", "before", "one in 10 calls of a script cut before the server has it",
    "every call may be sent again: nothing is lost, nothing recorded twice",
)  # fmt: skip
_cutting(
    "cut-before-the-reply", "after", "one in 10 replies of a script cut: it ran, nobody knows",
    "the same; a claim whose reply is lost comes back with its lease",
)  # fmt: skip


@fault(
    "latency", "Valkey", "50 to 250 ms of latency on each request", "slower, and nothing else",
    lease="3s", deadline=30,
)  # fmt: skip
async def latency(lab: Lab) -> None:
    async with Proxy(lab.server.port) as proxy:
        proxy.latency = lambda: lab.random.uniform(0.05, 0.25)
        await start_workers(lab, 2, url=proxy.url)
        await lab.enqueue("nap", 200, seconds=0.02)
        await lab.wait_recorded(200, 30)
        lab.check(len(lab.entries("effect")) == 200, "a job ran twice")
        lab.check(proxy.delayed > 50, f"only {proxy.delayed} pieces of requests were slow")
        await lab.fleet.stop()


@fault(
    "half-open", "Valkey", "all connections of a worker go silent, without being closed",
    "it opens others by itself", limit=70, recovery=20.0, deadline=30,
)  # fmt: skip
async def half_open(lab: Lab) -> None:
    async with Proxy(lab.server.port) as proxy:
        (worker,) = await start_workers(lab, 1, url=proxy.url)
        await lab.enqueue("nap", 20, seconds=0.02)
        await lab.wait_recorded(20)
        silent, opened = proxy.swallow(), proxy.opened
        lab.check(silent >= 2, f"only {silent} connections were there to go silent")
        at = time.monotonic()
        await lab.enqueue("nap", 20, seconds=0.02)
        starts = await lab.wait_entries("start", 40, 40)
        lab.recoveries += [one.at_ns / 1e9 - at for one in starts[20:]]
        await lab.wait_recorded(40, 20)
        lab.check(worker.code is None, "the worker ended")
        lab.check(proxy.opened > opened, "no other connection was opened: none was silent")
        lab.note(f"{silent} connections silent")
        await lab.fleet.stop()
