"""What befalls the processes of a CPU worker, most of it by what jobs do to them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import psutil

from chaoslab.catalog import fault
from chaoslab.fleet import Worker
from chaoslab.lab import Lab
from twolane import runs
from twolane.errors import BadArguments, NotEncodable, PayloadTooLarge

MEBIBYTE = 1024 * 1024


async def _among_others(
    lab: Lab,
    function: str,
    expect: str,
    *options: str,
    count: int = 3,
    says: str = "",
    **arguments: Any,
) -> Worker:
    """Hostile jobs among ordinary ones, which all have to be done by the same worker.

    The hostile ones' errors have to have ``says`` in their messages: they end of that, not of
    something else.
    """
    worker = await lab.fleet.start("cpu", *options)
    await lab.enqueue("compute", 20, seconds=0.01)
    hostile = await lab.enqueue(function, count, expect=expect, **arguments)
    await lab.enqueue("compute", 20, seconds=0.01)
    await lab.wait_recorded(40 + count, lab.fault.deadline)
    errors = {one.id: one.outcome.error for one in await lab.records() if one.id in hostile}
    told = {error.message for error in errors.values() if error is not None}
    lab.check(all(says in one for one in told), f"told {told}, which is not of {says!r}")
    lab.check(worker.code is None, "the worker ended")
    return worker


def _alone(name: str, what: str, function: str, expect: str, **rest: Any) -> None:
    arguments = rest.pop("arguments", {})
    options = rest.pop("options", ())
    says = rest.pop("says", "")

    async def inject(lab: Lab) -> None:
        await _among_others(lab, function, expect, *options, says=says, **arguments)

    fault(name, "pool", what, f"recorded as {expect}; the others are done", **rest)(inject)


_alone(
    "child-segfault", "a job that ends with SIGSEGV", "segfault", "failed ProcessDied",
    says="SIGSEGV",
)  # fmt: skip
_alone(
    "child-os-exit", "a job that calls os._exit(0)", "leave_at_once", "failed ProcessDied",
    says="exited with status 0",
)  # fmt: skip
_alone("child-sys-exit", "a job that calls sys.exit(0)", "exit_python", "failed SystemExit")
_alone("endless-python", "an endless loop in Python", "loop_in_python", "failed JobTimeout")
_alone(
    "endless-c", "sum(range(10**12)): a C loop that keeps the GIL", "loop_in_c",
    "failed JobTimeout",
)  # fmt: skip
_alone(
    "memory-bomb", "memory without end, under --max-memory 200", "swell", "failed ProcessDied",
    options=("--max-memory", "200"), says="over the memory limit of 200 MiB",
)  # fmt: skip
_alone(
    "unencodable-result", "results without a form on the wire", "unencodable",
    "failed ResultNotEncodable",
)  # fmt: skip


@fault(
    "child-sigkill", "pool", "SIGKILL of a process in the middle of its job",
    "that job fails, as ProcessDied; the pool heals and the others are done",
)  # fmt: skip
async def child_sigkill(lab: Lab) -> None:
    worker = await lab.fleet.start("cpu")
    (held,) = await lab.enqueue(
        "hold_a_process", 1, expect="failed ProcessDied", go=str(lab.directory / "go")
    )
    await lab.enqueue("compute", 40, seconds=0.01)

    async def holder() -> int | None:
        return next((one.pid for one in lab.entries("start") if one.id == held), None)

    os.kill(await lab.wait(holder, "the start of the job that is to be hit"), signal.SIGKILL)
    await lab.wait_recorded(41)
    lab.check(worker.code is None, "the worker ended")


@fault(
    "killed-in-a-result", "pool", "SIGKILL while a result of 4 MB is on its way",
    "those jobs fail, or are whole; no half result, and the others are done", lease="5s",
)  # fmt: skip
async def killed_in_a_result(lab: Lab) -> None:
    worker = await lab.fleet.start("cpu")
    await _kill_in_the_middle_of_a_result(lab, worker)
    ids = await lab.enqueue("zeros", 30, expect="", size=4 * MEBIBYTE)
    killed = 1
    seen: set[tuple[str, int]] = set()
    deadline = time.monotonic() + 15
    while len(await lab.records()) < 31 and time.monotonic() < deadline:
        # The effect's line is written just before the result is encoded and sent.
        for one in lab.entries("effect"):
            if (one.id, one.pid) not in seen:
                seen.add((one.id, one.pid))
                if lab.random.random() < 0.3:
                    killed += _kill(one.pid)
        await asyncio.sleep(0.001)
    results = await lab.client.mget([f"arq:result:{one}" for one in ids])
    whole = {
        one.id for one in await lab.records() if one.status == "done"
    }  # fmt: skip
    for job_id, data in zip(ids, results, strict=True):
        if job_id in whole:
            lab.check(len(data or b"") > 4 * MEBIBYTE, f"the result of {job_id} is cut short")
    others = [one.status for one in await lab.records() if one.status != "done"]
    lab.check(set(others) <= {"failed ProcessDied"}, f"outcomes {set(others)}")
    lab.check(len(others) <= killed, f"{len(others)} failed, {killed} were killed")
    lab.note(f"{killed} processes killed, {len(others)} jobs failed with them")


async def _kill_in_the_middle_of_a_result(lab: Lab, worker: Worker) -> None:
    """The worker is stopped, so it reads nothing: its process stops halfway through its answer."""
    go = lab.directory / "go"
    await lab.enqueue(
        "hold_a_result", 1, expect="failed ProcessDied", go=str(go), size=4 * MEBIBYTE
    )
    (start,) = await lab.wait_entries("start", 1)
    worker.send(signal.SIGSTOP)
    go.touch()
    await lab.wait_entries("effect", 1)
    process, before = psutil.Process(start.pid), 0.0

    async def stuck() -> bool:
        nonlocal before
        times = process.cpu_times()
        last, before = before, times.user + times.system
        await asyncio.sleep(0.05)
        return process.status() == psutil.STATUS_SLEEPING and last == before

    await lab.wait(stuck, "a process that waits to go on with its answer")
    lab.check(_kill(start.pid), "the process had ended")
    worker.send(signal.SIGCONT)
    await lab.wait_recorded(1)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@fault(
    "huge-values", "pool", "arguments and results at the limits and over them",
    "over a limit: refused by the producer, or recorded as such; below: whole",
)  # fmt: skip
async def huge_values(lab: Lab) -> None:
    try:
        await lab.enqueue("echo", 1, data=bytes(17 * MEBIBYTE), seconds=0.0)
        lab.check(False, "arguments of 17 MiB were not refused")
    except PayloadTooLarge:
        pass
    try:
        lab.caller.call("echo", {"key": "k", "data": object(), "seconds": 0.0})
        lab.check(False, "arguments without a form on the wire were not refused")
    except (BadArguments, NotEncodable):
        pass
    await _among_others(lab, "zeros", "failed ResultTooLarge", size=17 * MEBIBYTE, count=1)
    await lab.enqueue("echo", 2, data=bytes(15 * MEBIBYTE), seconds=0.0)
    await lab.wait_recorded(43)


@fault(
    "fork-bomb", "pool", "a job that starts 40 programs, which start one more each",
    "at its timeout they all die with it; the others are done",
)  # fmt: skip
async def fork_bomb(lab: Lab) -> None:
    worker = await lab.fleet.start("cpu")
    await lab.enqueue("fork_bomb", 1, expect="failed JobTimeout", children=40)
    (start,) = await lab.wait_entries("start", 1)

    async def grown() -> list[psutil.Process] | None:
        try:
            family = psutil.Process(start.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return None
        return family if len(family) >= 80 else None

    family = await lab.wait(grown, "80 processes")
    await lab.enqueue("compute", 20, seconds=0.01)
    await lab.wait_recorded(21)

    async def gone() -> bool:
        return not any(one.is_running() and one.status() != "zombie" for one in family)

    await lab.wait(gone, "the end of the programs", 5)
    lab.check(worker.code is None, "the worker ended")


@fault(
    "kill-storm", "pool",
    "400 jobs with payloads and results of 4 MB, while every 50 ms a random process is killed",
    "exactly the killed ones fail", deadline=60, limit=100, heavy=True,
)  # fmt: skip
async def kill_storm(lab: Lab) -> None:
    jobs, outstanding = 400, 24
    # Results of 4 MB each are not kept: the stream says what became of each job.
    worker = await lab.fleet.start("cpu", "--processes", "4", modules=["chaoslab.storm"])
    run = await lab.open_run()
    data = bytes(4 * MEBIBYTE)
    ids = [f"{run}-{number:07d}" for number in range(jobs)]
    done = asyncio.Event()

    async def feed() -> None:
        sent = 0
        while sent < jobs:
            settled = (await runs.get(lab.client, run)).settled
            for one in ids[sent : min(jobs, settled + outstanding)]:
                job = lab.job(one, "echo_and_forget", data=data, seconds=0.03)
                await lab.enqueue_through(lab.store, "cpu", [job], run, expect="")
                sent += 1
            await asyncio.sleep(0.005)
        await lab.wait_recorded(jobs, 80)
        done.set()

    async def kill() -> set[int]:
        killed: set[int] = set()
        await lab.wait_entries("start", 1)
        while not done.is_set():
            # A job's process, not the one that starts the others.
            known = {one.pid for one in lab.entries("start")} - killed
            living = [one.pid for one in worker.family() if one.pid in known]
            if living:
                pid = lab.random.choice(sorted(living))
                if _kill(pid):
                    killed.add(pid)
            await asyncio.sleep(0.05)
        return killed

    feeding = lab.go(feed())
    killed = await kill()
    await feeding
    failed = {one.id for one in await lab.records() if one.status == "failed ProcessDied"}
    others = {one.status for one in await lab.records()} - {"done", "failed ProcessDied"}
    lab.check(not others, f"outcomes {others}")
    started_in = {one.id: one.pid for one in lab.entries("start")}
    effects = {one.id for one in lab.entries("effect")}
    innocent = {one for one in failed & set(started_in) if started_in[one] not in killed}
    lab.check(not innocent, f"{len(innocent)} failed whose process was not killed")
    # Killed while it read the job's arguments: nothing of the job began.
    unbegun = failed - set(started_in)
    at_work = {started_in[one] for one in failed & set(started_in)}
    lab.check(len(unbegun) <= len(killed - at_work), f"{len(unbegun)} failed without a cause")
    # A process that was killed before the effect cannot have given its result.
    spared = {one for one in started_in if started_in[one] in killed and one not in effects}
    spared -= failed
    lab.check(not spared, f"{len(spared)} are done whose process was killed in the middle")
    lab.check(worker.code is None, "the worker ended")
    lab.check(len(killed) >= 20, f"only {len(killed)} processes were killed: no storm")
    lab.check(len(failed) > 0, "no job was hit")
    lab.note(f"{len(killed)} processes killed, {len(failed)} jobs failed with them")
