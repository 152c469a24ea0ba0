"""What is said of a run follows from its numbers: another run, another sentence."""

from __future__ import annotations

from producer.comparison import compare
from producer.story import tell
from tests.producer.making import made

SLOTS = {"io": 100, "cpu": 4}


def told(outcomes: list[object], slots: dict[str, int] = SLOTS) -> list[str]:
    return tell(compare(outcomes), slots)


def test_io_jobs_that_wait_side_by_side() -> None:
    (sentence,) = told([made(n, run_seconds=2.0, cpu_seconds=0.02) for n in range(50)])

    assert sentence == (
        "The IO lane's 50 jobs ran for 100.0 s in all and computed for 1.0 s of it: they waited; "
        "on one event loop they took 2.0 s, 50.0 times faster than one at a time, with 50 at once: "
        "waiting is cheap to overlap."
    )


def test_cpu_jobs_that_compute_on_four_processes() -> None:
    outcomes = [made(n, lane="cpu", at=n // 4, run_seconds=1.0, cpu_seconds=0.98) for n in range(8)]

    (sentence,) = told(list(outcomes))

    assert "The CPU lane's 8 jobs ran for 8.0 s in all and computed for 7.8 s" in sentence
    assert "they computed; on 4 processes they took 2.0 s" in sentence
    assert "3.9 times faster than one at a time on a free core" in sentence


def test_cpu_jobs_that_share_their_cores_are_not_said_to_gain_by_it() -> None:
    outcomes = [made(n, lane="cpu", at=0, run_seconds=4.0, cpu_seconds=1.5) for n in range(4)]

    (sentence,) = told(list(outcomes))

    assert "the rest they waited, for a core" in sentence
    assert "1.5 times faster than one at a time on a free core" in sentence


def test_one_process_gains_nothing_and_that_is_said() -> None:
    outcomes = [made(n, lane="cpu", at=n, run_seconds=1.0, cpu_seconds=1.0) for n in range(3)]

    (sentence,) = told(list(outcomes), {"cpu": 1})

    assert "on 1 process they took 3.0 s, no faster than one at a time" in sentence
    assert "times faster" not in sentence


def test_io_jobs_that_compute_are_not_said_to_wait() -> None:
    outcomes = [made(n, at=n, run_seconds=1.0, cpu_seconds=1.0) for n in range(3)]

    (sentence,) = told(list(outcomes))

    assert "they computed" in sentence
    assert "waited" not in sentence
    assert "no faster than one at a time" in sentence


def test_jobs_that_do_half_of_each() -> None:
    (sentence,) = told([made(run_seconds=1.0, cpu_seconds=0.5)])

    assert "some of both" in sentence
    assert "The IO lane's 1 job ran" in sentence


def test_jobs_that_never_ran_are_said_not_to_have_run() -> None:
    (sentence,) = told([made(n, try_=0, success=False, cancelled=True) for n in range(2)])

    assert sentence == "None of the IO lane's 2 jobs ran."


def test_a_lane_of_several_jobs_is_told_by_its_sum() -> None:
    outcomes = [
        made(0, function="fetch", run_seconds=1.0),
        made(1, function="query", run_seconds=3.0),
        made(2, lane="cpu", run_seconds=1.0, cpu_seconds=1.0),
    ]

    io, cpu = told(list(outcomes))

    assert "The IO lane's 2 jobs ran for 4.0 s" in io
    assert cpu.startswith("The CPU lane's 1 job ")


def test_of_nothing_nothing_is_told() -> None:
    assert told([]) == []
