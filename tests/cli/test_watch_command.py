"""``watch``: lines for a pipe, records for a program, a live view for a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.cli.conftest import COMMAND, ROOT, Run
from tests.cli.started import Started, starting
from tests.conftest import wait_until
from twolane import fleet, keys
from twolane.fleet import Heartbeat

# Sets a terminal's title, clears its screen, and rings.
EVIL = "io-\x1b]0;owned\x07\x1b[2J\x9b31m"


async def publish(client: Redis, worker: str, **fields: Any) -> None:
    seconds, micros = await client.time()
    beat = Heartbeat(worker=worker, lane="io", host=worker, pid=1, slots=20, **fields)
    until_ms = seconds * 1000 + micros // 1000 + 60_000
    await client.zadd(keys.WORKERS, {worker: until_ms})
    await client.set(keys.worker(worker), fleet.encode(beat), px=60_000)


@pytest.fixture
def start(twolane: Run) -> Iterator[Callable[..., Started]]:
    with starting() as begin:
        yield begin


def test_a_pipe_gets_a_line_for_each_lane_and_second(twolane: Run) -> None:
    twolane("enqueue", "primes", "--chunks", "3")

    code, out, err = twolane("watch", "--for", "1s")

    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line[2] for line in lines] == ["io", "cpu"] * 2
    first, second = lines[0][0], lines[2][0]  # 0 and 1, or more where they came late
    assert [line[0] for line in lines] == [first, first, second, second]
    assert int(first) < int(second)
    assert "out 0/s  waiting 3  " in out
    assert "\x1b" not in out
    assert (
        err.splitlines()
        == ["3 cpu jobs wait and no worker serves the lane; start one: twolane worker cpu"] * 2
    )


async def test_a_record_a_second_has_the_lanes_and_the_workers(twolane: Run, client: Redis) -> None:
    await publish(client, "io-a", busy=3, cpu_share=0.5)

    code, out, err = twolane("watch", "--json", "--for", "1s")

    first, second = (json.loads(line) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert [lane["lane"] for lane in first["lanes"]] == ["io", "cpu"]
    assert (second["lanes"][0]["slots"], second["lanes"][0]["running"]) == (20, 3)
    (worker,) = second["workers"]
    assert (worker["worker"], worker["cpu_share"]) == ("io-a", 0.5)


async def test_names_of_workers_cannot_act_on_a_terminal(twolane: Run, client: Redis) -> None:
    await publish(client, EVIL)

    for options in (("--json",), ()):
        out = twolane("watch", *options, "--for", "0s").out
        assert out
        assert out.replace("\n", "").isprintable()


def test_ctrl_c_ends_it_well(start: Callable[..., Started]) -> None:
    for option in ("--json", "--for=1h"):
        watch = start("watch", option)
        watch.wait_said("cpu")

        watch.interrupt()

        assert watch.end() == 0
        assert "Error" not in "".join(watch.said)


@pytest.fixture
def terminal(twolane: Run) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """``twolane watch`` on a terminal of 100 columns; the other end of it is not blocking."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (30, 100))
    process = subprocess.Popen(
        [*COMMAND, "watch"], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    yield master, process
    process.kill()
    process.wait()
    os.close(master)


async def test_a_terminal_gets_a_view_that_follows_the_fleet(
    terminal: tuple[int, subprocess.Popen[bytes]], client: Redis
) -> None:
    master, process = terminal
    await publish(client, EVIL, busy=7)
    seen = b""

    async def shows(text: str) -> bool:
        nonlocal seen
        with contextlib.suppress(BlockingIOError):
            seen += os.read(master, 65_536)
        return text in seen.decode(errors="replace")

    await wait_until(lambda: shows("7/20"), "the worker's slots")
    await publish(client, "io-new")
    await wait_until(lambda: shows("workers came +, went -"), "a mark for the new worker")
    await wait_until(lambda: shows("io-new"), "the new worker")
    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 0
    for evil in (b"\x1b]0;", b"\x07", b"\x1b[2J", "\x9b".encode()):
        assert evil not in seen
