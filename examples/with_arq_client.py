"""Use a stock arq client with twolane's workers: all it needs are the serializers.

In this folder, in one terminal:

    $ twolane up --jobs my_jobs

and in another one:

    $ python with_arq_client.py

The broker is the one that TWOLANE_BROKER names, else the one of `twolane up`.
"""

from __future__ import annotations

import asyncio

from arq import create_pool
from arq.connections import RedisSettings

from twolane import wire
from twolane.broker import resolve
from twolane.errors import RemoteError
from twolane.keys import CPU_QUEUE


async def main() -> None:
    pool = await create_pool(
        RedisSettings.from_dsn(resolve(None)),
        # MessagePack in place of pickle: nothing that arrives can run code.
        job_serializer=wire.dumps,
        job_deserializer=wire.loads,
    )
    try:
        # arq's own queue is the IO lane; the CPU lane's must be named.
        greet = await pool.enqueue_job("greet", "Ada")
        collatz = await pool.enqueue_job("collatz", 27, _queue_name=CPU_QUEUE)
        assert greet is not None
        assert collatz is not None
        print(await greet.result(timeout=30))
        print(f"27 takes {await collatz.result(timeout=30)} steps")

        # What a job raised arrives as its type, its message and its traceback, as text.
        wrong = await pool.enqueue_job("collatz", "one", _queue_name=CPU_QUEUE)
        assert wrong is not None
        try:
            await wrong.result(timeout=30)
        except RemoteError as error:
            print(f"failed: {error.type}")
    finally:
        await pool.aclose()


if __name__ == "__main__":
    asyncio.run(main())
