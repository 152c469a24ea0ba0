"""The ways to run the same work: measured for real on small work, and told from made numbers."""

from __future__ import annotations

import asyncio
import random
from concurrent import futures
from pathlib import Path
from typing import Any

import psutil
import pytest

from producer.models import findings, rounds, usage
from producer.models import work as working
from producer.models.rounds import in_a_process, in_rounds, side_by_side
from producer.models.ways import WatchedSelector, measure
from producer.models.work import (
    ASYNCIO,
    INTERPRETERS,
    ONE,
    PROCESSES,
    THREADS,
    WORKERS,
    Measurement,
    Work,
    available,
)
from producer.submit import Caller
from tests.conftest import wait_until
from tests.producer.laboratory import compared, fetches, measured, primes_on, work
from twolane.registry import Registry

SAMPLES = ("tests.producer.model_jobs",)


def sample(job: str, lane: str = "cpu", count: int = 4, **kwargs: Any) -> Work:
    return Work(
        job=job, lane="io" if lane == "io" else "cpu", modules=SAMPLES, args=[], kwargs=kwargs,
        count=count, at_once=4, cores=2, is_coroutine=job.startswith("await"),
    )  # fmt: skip


@pytest.mark.parametrize("model", [ONE, THREADS, ASYNCIO])
@pytest.mark.parametrize("job", ["await_a_little", "wait_a_little", "compute_a_little"])
def test_every_kind_of_function_runs_in_every_way(model: str, job: str, tmp_path: Path) -> None:
    lane = "cpu" if job == "compute_a_little" else "io"

    found = measure(sample(job, lane, mark=str(tmp_path / "calls")).order(model))

    assert (found.failed, found.error) == (0, "")
    assert found.wall > 0
    warm_up = sample(job, lane).width(model)
    assert (tmp_path / "calls").read_text().count("x") == 4 + warm_up


@pytest.mark.slow
@pytest.mark.parametrize("job", ["await_a_little", "compute_a_little"])
async def test_processes_are_measured_in_a_process_of_its_own(job: str, tmp_path: Path) -> None:
    lane = "cpu" if job == "compute_a_little" else "io"

    found = await in_a_process(sample(job, lane, mark=str(tmp_path / "calls")), PROCESSES)

    assert (found.failed, found.error) == (0, "")
    assert found.wall > 0
    assert (tmp_path / "calls").read_text().count("x") == 4 + 2


async def test_what_a_job_prints_is_not_taken_for_the_measurement(
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = await in_a_process(sample("print_a_little"), ONE)

    assert found.failed == 0
    assert found.wall > 0
    assert "{not json" in capfd.readouterr().err


async def test_a_job_that_ends_its_process_is_no_measurement_but_a_reason() -> None:
    found = await in_a_process(sample("exit_at_once"), ONE)

    assert found.wall == 0
    assert found.error == "its process ended with status 7"


@pytest.mark.slow
async def test_a_measurement_that_is_given_up_leaves_no_process(tmp_path: Path) -> None:
    mark = tmp_path / "pids"
    of = sample("compute_for_ever", mark=str(mark))
    task = asyncio.create_task(in_a_process(of, PROCESSES))

    async def both_run() -> list[int]:
        pids = [int(line) for line in mark.read_text().splitlines()] if mark.exists() else []
        return pids if len(pids) == 2 else []

    pids = await wait_until(both_run, "two processes that compute", seconds=60)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    async def gone() -> bool:
        return not any(psutil.pid_exists(pid) and _lives(pid) for pid in pids)

    await wait_until(gone, "the end of what was started")


async def test_what_a_cut_off_comparison_had_measured_is_kept() -> None:
    """Ctrl-C in the last round showed nothing of those before."""
    works, calls = [sample("a"), sample("b")], 0
    kept: list[rounds.Measured] = []

    async def measured_until_cut(of: Work, model: str) -> Measurement:
        nonlocal calls
        calls += 1
        if calls == 11:
            raise asyncio.CancelledError
        return Measurement(wall=1.0 if model == ONE else 0.5)

    with pytest.raises(asyncio.CancelledError):
        await in_rounds(works, [ONE, THREADS], 5, measured_until_cut, random.Random(1), into=kept)

    whole, count = rounds.complete(kept, [ONE, THREADS])
    assert sum(len(found) for one in kept for found in one.values()) == 10
    assert count == 2, "the third round is not whole"
    assert all(len(found) == 2 for one in whole for found in one.values())
    found = side_by_side(works[0], whole[0], available(), count)
    assert found.rounds == 2
    threads = found.way(THREADS)
    assert threads is not None
    assert threads.speedup is not None
    assert threads.speedup.value == pytest.approx(2)


def test_of_a_first_round_that_is_not_whole_there_is_what_was_measured() -> None:
    kept: list[rounds.Measured] = [{THREADS: [Measurement(wall=1.0)]}, {}]

    whole, count = rounds.complete(kept, [ONE, THREADS])
    missing = {name: why or findings.CUT_OFF for name, why in available().items()}
    first, second = (side_by_side(sample("a"), one, missing, 1) for one in whole)

    assert (whole, count) == (kept, 0)
    assert first.way(THREADS) is not None
    assert second.way(THREADS) is None
    assert findings.tell(first) == [
        "a was not measured one at a time yet: there is nothing to compare with."
    ]
    assert findings.title(first) == "a: nothing to compare"


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_jobs_that_fail_are_counted_and_the_first_error_is_kept() -> None:
    found = measure(sample("fail_always").order(THREADS))

    assert found.failed == 4
    assert found.error == "ValueError: no luck"


@pytest.mark.parametrize(
    ("model", "lane", "width"),
    [
        (ONE, "io", 1), (THREADS, "io", 100), (ASYNCIO, "io", 100), (PROCESSES, "io", 4),
        (WORKERS, "io", 100), (THREADS, "cpu", 4), (PROCESSES, "cpu", 4), (WORKERS, "cpu", 4),
        (ASYNCIO, "cpu", 1),  # plain calls inside of a loop come one after the other
    ],
)  # fmt: skip
def test_how_many_jobs_run_at_once(model: str, lane: str, width: int) -> None:
    assert work("j", lane).width(model) == width


def test_a_loop_that_is_held_is_seen() -> None:
    watched = WatchedSelector()

    async def hold() -> None:
        until = asyncio.get_running_loop().time() + 0.3
        while asyncio.get_running_loop().time() < until:
            pass

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(watched)) as runner:
        runner.run(hold())
        held = watched.longest
        watched.restart()
        runner.run(asyncio.sleep(0.31))

    assert held >= 0.3
    assert watched.longest < held, "sleeping holds nobody up"


def test_a_python_without_interpreter_pools_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(futures, "InterpreterPoolExecutor", raising=False)

    assert "InterpreterPoolExecutor came with 3.14" in available()[INTERPRETERS]
    assert available()[THREADS] == ""


def test_sub_interpreters_run_where_this_python_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # An executor of the same interface stands in where there is none.
    if not hasattr(futures, "InterpreterPoolExecutor"):
        monkeypatch.setattr(
            futures, "InterpreterPoolExecutor", futures.ThreadPoolExecutor, raising=False
        )

    assert available()[INTERPRETERS] == ""
    assert measure(sample("compute_a_little").order(INTERPRETERS)).wall > 0


async def test_rounds_are_interleaved_and_each_has_an_order_of_its_own() -> None:
    seen: list[tuple[str, str]] = []

    async def note(of: Work, model: str) -> Measurement:
        seen.append((of.job, model))
        return measured(1.0)

    works = [work("a"), work("b")]
    found = await in_rounds(works, [ONE, THREADS, ASYNCIO], 4, note, random.Random(3))

    orders = [tuple(seen[begin : begin + 6]) for begin in range(0, 24, 6)]
    assert all(len(set(order)) == 6 for order in orders), "each once a round"
    assert len(set(orders)) > 1
    assert [len(ways[ONE]) for ways in found] == [4, 4]


async def test_a_way_that_cannot_be_measured_is_not_tried_again() -> None:
    tries = 0

    async def fail_in_threads(of: Work, model: str) -> Measurement:
        nonlocal tries
        tries += model == THREADS
        return Measurement(error="no") if model == THREADS else measured(1.0)

    found = await in_rounds([work()], [ONE, THREADS], 3, fail_in_threads, random.Random(1))

    assert tries == 1
    way = side_by_side(work(), found[0], {}, 3).ways[1]
    assert (way.model, way.missing) == (THREADS, "no")


async def test_a_workers_failure_to_start_is_a_reason_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from producer.models import workers
    from twolane.errors import TwolaneError

    async def refuse(*_: object) -> Measurement:
        raise TwolaneError("no worker today")

    monkeypatch.setattr(workers, "measure", refuse)
    call = Caller(Registry.load(["twolane.jobs"])).call("count_primes", {"low": 0, "high": 10})
    of = work()

    found = await rounds.measurer({id(of): call})(of, WORKERS)

    assert found.error == "no worker today"


def test_the_table_has_every_way_in_order_with_its_reason_where_it_is_missing() -> None:
    table = primes_on(4)

    assert [way.model for way in table.ways] == list(working.MODELS)
    assert {way.model: way.missing for way in table.ways if way.missing} == {
        "free-threaded threads": "no such build", "sub-interpreters": "too old",
    }  # fmt: skip
    assert table.way(ONE).speedup is None


def told(table: rounds.Compared) -> str:
    return " ".join(findings.tell(table))


def test_waiting_work_is_said_to_gain_by_asyncio() -> None:
    said = told(fetches())

    assert "it waits." in said
    assert "On asyncio, one thread ran it 80.0× as fast." in said
    assert "as many calls wait at once as there are processes" in said
    assert "held the event loop" not in said


def test_computing_on_four_cores_is_said_to_gain_by_processes_alone() -> None:
    said = told(primes_on(4))

    assert "it computes." in said
    assert "On asyncio it was no faster than one at a time (~1.00×)" in said
    assert "the plain calls held the event loop for 1.00 s without a break" in said
    assert "Threads (4) were no faster" in said
    assert "threads take turns at the interpreter lock" in said
    assert "Processes (4) ran it 3.81× as fast on 4 cores: computing goes as far as" in said
    assert "on the CPU lane it was 3.81× as fast" in said


def test_on_one_core_the_sentence_about_processes_is_another() -> None:
    said = told(primes_on(1))

    assert "Processes were no faster than one at a time" in said
    assert "this process may use one core only, so there is nothing to share out" in said
    assert "goes as far as the cores go" not in said
    assert "interpreter lock" not in said, "on one core it is not the lock that they wait for"


def test_processes_that_gain_little_on_many_cores_are_not_praised() -> None:
    near = (1.0, 1.01, 0.99)
    table = compared(work(cores=8), {ONE: near, PROCESSES: [one / 2 for one in near]})

    said = told(table)

    assert "Processes (8) ran it 2.00× as fast, though there are 8 cores" in said


def test_rounds_that_differ_too_much_are_said_to_tell_nothing() -> None:
    table = compared(work(), {ONE: (1.0, 1.0, 1.0), PROCESSES: (0.2, 2.0, 0.3)})

    assert "Processes (4) were not to be told from one at a time (~2.03×)" in told(table)
    assert table.way(PROCESSES).speedup.is_noise


def test_one_round_is_not_said_to_differ_from_others() -> None:
    said = told(compared(work(), {ONE: (1.0,), PROCESSES: (0.2,)}))

    assert "its rounds differed" not in said
    assert "(~5.00×): one round does not show how far rounds differ" in said


def test_the_cost_of_looking_at_processes_is_not_counted_into_the_cpu_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def look(process: object) -> list[object]:
        nonlocal now
        now += 5.0
        return []

    monkeypatch.setattr(usage, "_children", look)
    monkeypatch.setattr(usage.time, "process_time", lambda: now)

    began = usage.cpu_seconds()
    now += 1.0

    assert usage.cpu_seconds(at_end=True) - began == 1.0


def test_what_is_slower_is_called_slower() -> None:
    near = (1.0, 1.01, 0.99)
    table = compared(work(), {ONE: near, THREADS: [one * 1.5 for one in near]})

    assert "Threads (4) were slower than one at a time (0.67×)" in told(table)


def test_failures_are_told() -> None:
    broken = Measurement(wall=1.0, cpu_seconds=1.0, failed=3, error="ValueError: no")
    ways = {ONE: [measured(1.0), measured(1.0)], THREADS: [broken, broken]}
    table = side_by_side(work(), dict(ways), {}, 2)

    assert "6 jobs failed in threads (ValueError: no)" in told(table)


def test_titles_say_what_was_found() -> None:
    assert findings.title(fetches()).startswith("fetch is fastest with asyncio: 80.0×")
    assert findings.title(primes_on(1)) == "count_primes: no way is faster than one at a time"


def test_a_title_prefers_no_way_for_what_may_be_noise() -> None:
    table = compared(
        work(), {ONE: (1.0, 1.0, 1.0), PROCESSES: (0.3, 0.25, 0.2), WORKERS: (0.29, 0.24, 0.21)}
    )

    assert "is fastest with processes or twolane workers: 4.0" in findings.title(table)
