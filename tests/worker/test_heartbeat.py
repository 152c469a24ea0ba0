"""A worker's heartbeat counts its helper processes as its own."""

from __future__ import annotations

import subprocess
import sys

from redis.asyncio import Redis

from tests.conftest import wait_until
from twolane.fleet import Heartbeat
from worker.heartbeat import Pulse, identify


def start(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)


async def nothing(_: list[str]) -> None:
    pass


def ignore(_: Heartbeat) -> None:
    pass


async def test_a_helpers_cpu_time_and_memory_are_the_workers(client: Redis) -> None:
    program = "x = bytearray(50_000_000)\nprint(flush=True)\nwhile True: pass"
    helper = start(program)
    try:
        assert helper.stdout is not None
        helper.stdout.readline()
        alone, beat = identify("cpu"), identify("cpu")
        without = Pulse(client, alone, ignore, nothing)
        pulse = Pulse(client, beat, ignore, nothing, helpers=lambda: [helper.pid])

        async def counted() -> bool:
            await without.send()
            await pulse.send()
            return beat.cpu_share > 0.2

        await wait_until(counted, "the helper's CPU time")

        assert beat.memory_bytes > alone.memory_bytes + 50_000_000
    finally:
        helper.kill()
        helper.wait()
        helper.stdout.close()


async def test_a_helper_that_ended_is_no_error(client: Redis) -> None:
    ended = start("")
    ended.communicate()
    beat = identify("cpu")

    await Pulse(client, beat, ignore, nothing, helpers=lambda: [ended.pid]).send()

    assert beat.memory_bytes > 0


async def test_a_full_server_makes_no_worker_unwell(client: Redis) -> None:
    # It was told to orchestrators as unwell, and killed with jobs that were about to end.
    sent: list[None] = []
    pulse = Pulse(client, identify("io"), ignore, nothing, on_sent=lambda: sent.append(None))
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used - 1)
    try:
        await pulse.send()
    finally:
        await client.config_set("maxmemory", 0)

    assert sent == [None]


async def test_a_worker_knows_how_many_its_lane_has(client: Redis) -> None:
    beats = [identify("io"), identify("io"), identify("cpu")]
    pulses = [Pulse(client, beat, ignore, nothing) for beat in beats]

    for _ in range(2):
        for pulse in pulses:
            await pulse.send()
    assert [beat.fleet for beat in beats] == [2, 2, 1]

    await pulses[0].goodbye()
    await pulses[1].send()
    assert beats[1].fleet == 1
