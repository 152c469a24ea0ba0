"""Enqueue jobs from a program and collect their results.

In this folder, in one terminal:

    $ twolane up --jobs my_jobs

and in another one:

    $ python enqueue_from_python.py

The broker is the one that TWOLANE_BROKER names, else the one of `twolane up`.
"""

from __future__ import annotations

import asyncio

from producer.collect import Collected, follow
from producer.submit import Caller, submit
from twolane.broker import check, connect, resolve
from twolane.errors import BadArguments
from twolane.registry import Registry


async def main() -> None:
    url = resolve(None)
    client = connect(url)
    try:
        await check(client, url)
        # Only the names and the signatures of the jobs are needed here; a worker runs them.
        caller = Caller(Registry.load(["my_jobs"]))

        # Arguments are checked before anything is enqueued.
        try:
            caller.call("collatz", {"start": "one"})
        except BadArguments as error:
            print(f"refused: {error}")

        # What is submitted together is a run, on whichever lanes its jobs belong.
        calls = [caller.call("collatz", {"start": start}) for start in range(1, 101)]
        calls += [caller.call("greet", {"name": name}) for name in ("Ada", "Grace")]
        run = await submit(client, calls, "example")
        print(f"run {run.name}: {run.total} jobs")

        # Results come as the jobs settle. WaitTimeout is raised after 60 seconds; the run goes on.
        collected = await follow(client, run.name, timeout=60, on_progress=show_progress)
    finally:
        await client.aclose()

    steps = {}
    for outcome in collected.outcomes:
        if outcome.error is not None:
            print(f"{outcome.id} failed: {outcome.error}")
        elif outcome.function == "collatz":
            steps[outcome.kwargs["start"]] = outcome.result
        else:
            print(outcome.result)
    longest = max(steps, key=steps.__getitem__)
    print(f"the longest way from a number up to 100 is that of {longest}: {steps[longest]} steps")


def show_progress(collected: Collected) -> None:
    print(f"{len(collected)} of {collected.run.total} jobs have settled")


if __name__ == "__main__":
    asyncio.run(main())
