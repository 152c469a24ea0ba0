"""The check of a run's prime counts: only what covers [0, N) once is compared with the table."""

from __future__ import annotations

from typing import Any

import pytest

from producer.primes import checks
from tests.producer.making import made
from twolane.outcome import Outcome


def part(low: int, high: int, count: Any, **changes: Any) -> Outcome:
    kwargs = {"low": low, "high": high, "method": "sieve"}
    return made(low, function="count_primes", kwargs=kwargs, result=count, **changes)


def test_parts_that_tile_the_range_add_up_to_the_known_count() -> None:
    (check,) = checks([part(50, 100, 10), part(0, 50, 15)])

    assert (check.below, check.count, check.known, check.right) == (100, 25, 25, True)
    assert str(check) == "sieve: 25 primes below 100 — checked: π(100) = 25"


def test_a_wrong_sum_is_called_wrong() -> None:
    (check,) = checks([part(0, 50, 15), part(50, 100, 11)])

    assert not check.right
    assert "WRONG: π(100) = 25" in str(check)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([part(0, 50, 15), part(60, 100, 8)], id="gap"),
        pytest.param([part(0, 60, 17), part(50, 100, 10)], id="overlap"),
        pytest.param([part(0, 100, 25), part(0, 100, 25)], id="twice"),
        pytest.param([part(50, 100, 10)], id="begins late"),
        pytest.param([part(0, 50, 15), part(50, 100, None, success=False)], id="failed"),
        pytest.param([part(0, 50, 15), part(50, 100, "10")], id="result of another type"),
        pytest.param([part(0, 50, 15), part(50, 100, True)], id="a bool is no count"),
    ],
)
def test_what_does_not_cover_the_range_once_is_not_checked(parts: list[Outcome]) -> None:
    assert checks(parts) == []


def test_a_bound_that_is_in_no_table_is_said_to_be_unchecked() -> None:
    (check,) = checks([part(0, 99, 25)])

    assert (check.known, check.right) == (None, False)
    assert "not checked" in str(check)
    assert "WRONG" not in str(check)


@pytest.mark.parametrize("low", [0, 1, 2])
def test_no_prime_is_below_2_so_each_of_these_is_a_beginning(low: int) -> None:
    (check,) = checks([part(low, 10, 4)])

    assert check.right


def test_the_primes_below_2_are_none_although_the_table_counts_2_itself() -> None:
    (check,) = checks([part(0, 2, 0)])

    assert check.right


def test_methods_are_checked_apart() -> None:
    trial = {"low": 0, "high": 10, "method": "trial"}
    outcomes = [part(0, 100, 25), made(1, function="count_primes", kwargs=trial, result=5)]

    found = {check.method: check.right for check in checks(outcomes)}

    assert found == {"sieve": True, "trial": False}


def test_a_list_of_primes_counts_as_many() -> None:
    one = made(function="find_primes", kwargs={"low": 0, "high": 10}, result=[2, 3, 5, 7])

    (check,) = checks([one])

    assert (check.count, check.right) == (4, True)


@pytest.mark.parametrize("kwargs", [None, 5, {}, {"low": "0", "high": 10}, {"low": 0}])
def test_arguments_that_another_client_made_up_are_no_check_and_no_error(kwargs: Any) -> None:
    assert checks([made(function="count_primes", kwargs=kwargs, result=4)]) == []


def test_other_jobs_are_passed_over() -> None:
    assert checks([made(function="fetch", kwargs={"low": 0, "high": 10}, result=4)]) == []
