"""Every key by its constructor; arq's keys as arq has them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from arq import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from twolane import keys

CONSTRUCTORS: tuple[Callable[[str], str], ...] = (
    keys.job, keys.result, keys.in_progress, keys.retry, keys.wake, keys.counters,
    keys.run, keys.run_outcomes, keys.dead, keys.worker,
)  # fmt: skip


def test_arqs_keys_are_arqs() -> None:
    ours = (
        keys.JOB_PREFIX,
        keys.RESULT_PREFIX,
        keys.IN_PROGRESS_PREFIX,
        keys.RETRY_PREFIX,
        keys.ABORTS,
    )

    assert ours == (
        constants.job_key_prefix,
        constants.result_key_prefix,
        constants.in_progress_key_prefix,
        constants.retry_key_prefix,
        constants.abort_jobs_ss,
    )


def test_the_io_lane_is_arqs_default_queue() -> None:
    assert keys.QUEUES["io"] == constants.default_queue_name


def test_each_lane_has_a_queue_of_its_own() -> None:
    assert tuple(keys.QUEUES) == keys.LANES
    assert len(set(keys.QUEUES.values())) == len(keys.LANES)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (keys.job("x"), "arq:job:x"),
        (keys.result("x"), "arq:result:x"),
        (keys.in_progress("x"), "arq:in-progress:x"),
        (keys.retry("x"), "arq:retry:x"),
        (keys.wake("q"), "twolane:wake:q"),
        (keys.counters("q"), "twolane:counters:q"),
        (keys.run("r"), "twolane:run:r"),
        (keys.run_outcomes("r"), "twolane:run:r:outcomes"),
        (keys.dead("x"), "twolane:dead:x"),
        (keys.worker("w"), "twolane:worker:w"),
    ],
)
def test_a_key_is_the_one_that_the_scripts_use(made: str, expected: str) -> None:
    assert made == expected


@settings(derandomize=True, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True))
def test_no_two_kinds_of_key_meet(name: str) -> None:
    made = [constructor(name) for constructor in CONSTRUCTORS]
    fixed = [keys.ABORTS, keys.RUNS, keys.DEAD, keys.WORKERS, *keys.QUEUES.values()]

    assert all(one != other for one, other in itertools.combinations([*made, *fixed], 2))
