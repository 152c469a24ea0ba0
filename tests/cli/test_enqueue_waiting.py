"""Enqueueing and waiting for the run: what is shown, and how it is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.cli.conftest import COMMAND, ROOT, SAMPLES, Background, Run

StartWorker = Callable[..., Any]


async def test_a_run_is_waited_for_and_compared(twolane: Run, start_worker: StartWorker) -> None:
    await start_worker("io")

    code, out, err = twolane(
        "enqueue", "job", "echo", "value=[1, 2]", SAMPLES, "--count", "20", "--wait", "--run", "ok"
    )

    assert code == 0
    assert out.splitlines()[0] == "run ok: 20 of 20 jobs"
    assert out.splitlines()[2].split()[:4] == ["io", "echo", "20", "0"]
    assert err == "run ok: 20 jobs enqueued\n"


async def test_with_json_the_comparison_is_data(twolane: Run, start_worker: StartWorker) -> None:
    await start_worker("cpu", "--processes=2")

    code, out, err = twolane(
        "enqueue", "primes", "--below", "1_000_000", "--chunks", "8", "--wait", "--json"
    )

    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == {"run", "comparison", "primes", "failures"}
    assert (found["run"]["total"], found["run"]["done"]) == (8, 8)
    assert found["comparison"][0]["job"] == "count_primes"
    assert found["primes"] == [
        {"method": "sieve", "below": 1_000_000, "count": 78_498, "known": 78_498, "right": True}
    ]
    assert found["failures"] == []


async def test_a_job_that_fails_is_exit_code_4_and_told_of(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")

    code, out, _ = twolane("enqueue", "job", "fail", SAMPLES, "--wait", "--run", "bad")

    assert code == 4
    assert "1 × ValueError, for example: bad-0000000: as asked" in out
    assert "`twolane dead list --run bad`" in out


async def test_what_a_failing_job_says_cannot_act_on_the_terminal(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")
    arguments = ("job", "fail_with_controls", SAMPLES, "--wait", "--run", "nasty")

    ended = [
        twolane("enqueue", *arguments),
        twolane("runs", "show", "nasty", "--json"),
        twolane("runs", "collect", "nasty"),
        twolane("dead", "list", "--traceback"),
        twolane("dead", "list", "--json"),
    ]

    for one in ended:
        assert "ValueError" in one.out
        for dangerous in "\x1b\x07\x9b\u202e":
            assert dangerous not in one.out + one.err


def test_when_the_time_is_over_the_run_goes_on(twolane: Run) -> None:
    code, out, err = twolane(
        "enqueue", "query", "--wait", "--timeout", "300ms", "--run", "slow", "--count", "2"
    )

    assert (code, out) == (5, "")
    lines = err.splitlines()
    assert lines[0] == "run slow: 2 jobs enqueued"
    assert lines[-1].startswith("Error: run slow: 0 of 2 jobs done")
    assert "`twolane runs show slow --wait`" in lines[-1]
    assert "Traceback" not in err
    assert json.loads(twolane("status", "--json").out)["lanes"][0]["waiting"] == 2


def test_who_waits_for_a_lane_without_a_worker_is_told(twolane: Run) -> None:
    _, _, err = twolane("enqueue", "query", "--wait", "--timeout", "2s")

    assert err.count("no io worker is running; start one: `twolane worker io`") == 1
    assert "cpu" not in err


async def test_ctrl_c_while_waiting_says_how_to_follow_and_to_cancel(
    twolane: Run, background: Callable[..., Background]
) -> None:
    waiting = background("enqueue", "query", "--wait", "--run", "left")
    assert waiting.process.stderr is not None
    assert await asyncio.to_thread(waiting.process.stderr.readline) == "run left: 1 job enqueued\n"
    # The warning of the missing worker comes when the wait is well on its way.
    assert "no io worker" in await asyncio.to_thread(waiting.process.stderr.readline)

    waiting.process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(waiting.process.communicate, timeout=20)

    assert (waiting.process.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if line] == [
        "run left goes on: `twolane runs show left --wait`, `twolane cancel left`",
        "interrupted",
    ]
    assert twolane("cancel", "left").code == 0


LOST_INTERRUPT = """
import asyncio, os, signal, sys
from producer.cli.session import run

async def work():
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(1_000_000))
    try:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print("went on")

try:
    run(work)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_not_lost_in_the_midst_of_work() -> None:
    """asyncio's own handler cancels a task while it runs. redis-py then looks at its connection
    with a timeout of 0, takes the pending cancellation for that timeout, and the wait went on: of
    Ctrl-Cs that came while results were read, one in five did nothing."""
    ended = subprocess.run(
        [sys.executable, "-c", LOST_INTERRUPT], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert (ended.stdout, ended.stderr) == ("interrupted\n", "")


async def test_a_terminal_gets_bars_and_the_data_stays_bare(
    twolane: Run, start_worker: StartWorker
) -> None:
    await start_worker("io")
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "enqueue", "job", "echo", SAMPLES, "--count", "5", "--wait",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    showing = asyncio.create_task(asyncio.to_thread(read_terminal, ours))
    out, _ = await process.communicate()
    shown = await showing
    os.close(ours)

    assert process.returncode == 0
    assert "io lane" in shown
    assert "5/5" in shown
    assert "\x1b[3" not in shown, "colour in spite of NO_COLOR"
    assert b"\x1b" not in out


def read_terminal(descriptor: int) -> str:
    """What is written to a pseudo-terminal until its other side is closed."""
    shown = bytearray()
    with contextlib.suppress(OSError):  # Linux says EIO for the end, macOS nothing
        while chunk := os.read(descriptor, 65536):
            shown += chunk
    return shown.decode()
