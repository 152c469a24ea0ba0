"""Sizing by queueing theory, against textbooks, limits and simulated queues."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer import queueing

Runs = npt.NDArray[np.float64]


# Waiting probabilities for λ = 10, μ = 12: the multiple-server worksheet of Anderson, Sweeney and
# Williams' Management Science (Cengage).
@pytest.mark.parametrize(
    ("servers", "probability"), [(2, 0.245), (3, 0.058), (4, 0.011), (5, 0.002)]
)
def test_erlang_c_is_the_worksheets(servers: int, probability: float) -> None:
    assert queueing.erlang_c(servers, 10 / 12) == pytest.approx(probability, abs=0.0005)


# Offered loads of 0.5, 1, 3 and 15 erlangs, as tables of Erlang's C are printed; the digits are of
# the definition in exact fractions.
@pytest.mark.parametrize(
    ("servers", "load", "probability"),
    [(1, 0.5, 1 / 2), (2, 1, 1 / 3), (5, 3, 81 / 343), (20, 15, 0.160429387417)],
)
def test_erlang_c_is_its_definition(servers: int, load: float, probability: float) -> None:
    assert queueing.erlang_c(servers, load) == pytest.approx(probability, rel=1e-9)


def test_a_textbook_emergency_room_waits_its_textbook_time() -> None:
    # F. S. Hillier and G. J. Lieberman, Introduction to Operations Research, County Hospital:
    # two doctors, two patients an hour, twenty minutes each. Wq = 1/24 hour.
    wait = queueing.wait(servers=2, rate=2, mean_run=1 / 3)

    assert wait.chance == pytest.approx(1 / 6)
    assert wait.mean == pytest.approx(1 / 24)


def test_a_textbook_eye_clinic_waits_its_textbook_time() -> None:
    # D. Gross and C. M. Harris, Fundamentals of Queueing Theory, City Eye Clinic: three doctors,
    # six patients an hour, twenty minutes each. Lq = 8/9, and Lq = λWq.
    wait = queueing.wait(servers=3, rate=6, mean_run=1 / 3)

    assert wait.mean * 6 == pytest.approx(8 / 9)


def test_one_server_is_pollaczek_and_khinchines() -> None:
    for scv in (0, 0.3, 1, 4):
        wait = queueing.wait(servers=1, rate=0.8, mean_run=1, scv=scv)

        assert wait.chance == pytest.approx(0.8)
        assert wait.mean == pytest.approx(0.8 / 0.2 * (1 + scv) / 2)


def test_a_quantile_of_one_exponential_server_is_the_closed_form() -> None:
    wait = queueing.wait(servers=1, rate=0.8, mean_run=1)

    assert wait.quantile(0.95) == pytest.approx(-math.log(0.05 / 0.8) / 0.2)
    assert wait.quantile(0.1) == 0
    assert wait.exceeds(wait.quantile(0.95)) == pytest.approx(0.05)
    assert wait.exceeds(0) == pytest.approx(0.8)


def test_erlang_c_holds_for_a_hundred_thousand_servers() -> None:
    # The square-root staffing limit: S. Halfin and W. Whitt, Operations Research 29, 1981.
    load, spare = 99_000.0, 1.0
    servers = math.ceil(load + spare * math.sqrt(load))

    density = math.exp(-(spare**2) / 2) / math.sqrt(2 * math.pi)
    below = (1 + math.erf(spare / math.sqrt(2))) / 2

    assert queueing.erlang_c(servers, load) == pytest.approx(
        1 / (1 + spare * below / density), rel=0.01
    )


def test_far_more_servers_than_load_never_wait() -> None:
    wait = queueing.wait(servers=100_000, rate=1, mean_run=1)

    assert wait.chance == 0
    assert wait.mean == 0
    assert wait.quantile(0.999) == 0
    assert wait.exceeds(0) == 0


@pytest.mark.parametrize("rate", [2, 2.5])
def test_an_overload_waits_forever(rate: float) -> None:
    wait = queueing.wait(servers=2, rate=rate, mean_run=1)

    assert wait.chance == 1
    assert wait.mean == math.inf
    assert wait.quantile(0) == wait.quantile(0.95) == math.inf
    assert wait.exceeds(3600) == 1


# Simulated: a queue with as many jobs as keep the error of the mean near 3 %.


def _exponential(random: np.random.Generator, jobs: int) -> Runs:
    return random.exponential(1.0, jobs)


def _constant(random: np.random.Generator, jobs: int) -> Runs:
    return np.ones(jobs)


def _erlang_four(random: np.random.Generator, jobs: int) -> Runs:
    return random.gamma(4.0, 0.25, jobs)


def _hyperexponential(random: np.random.Generator, jobs: int) -> Runs:
    # Two exponentials with balanced means: mean 1, scv 4.
    first = (1 + math.sqrt(3 / 5)) / 2
    means = np.where(random.random(jobs) < first, 1 / (2 * first), 1 / (2 * (1 - first)))
    return random.exponential(1.0, jobs) * means


@pytest.mark.parametrize(
    ("runs", "scv", "servers", "rate", "tolerance"),
    [
        (_exponential, 1.0, 1, 0.7, 0.10),
        (_exponential, 1.0, 5, 4.0, 0.10),
        (_constant, 0.0, 5, 4.0, 0.10),
        (_constant, 0.0, 20, 18.0, 0.15),
        (_erlang_four, 0.25, 5, 4.0, 0.10),
        (_hyperexponential, 4.0, 5, 4.0, 0.25),
    ],
)
def test_a_simulated_queue_waits_as_predicted(
    runs: Callable[[np.random.Generator, int], Runs],
    scv: float,
    servers: int,
    rate: float,
    tolerance: float,
) -> None:
    waits = _simulated(runs, servers, rate, jobs=200_000)

    wait = queueing.wait(servers, rate, 1.0, scv)

    assert wait.mean == pytest.approx(np.mean(waits), rel=tolerance)
    assert wait.chance == pytest.approx(np.mean(waits > 1e-12), rel=0.15)
    assert wait.quantile(0.95) == pytest.approx(np.quantile(waits, 0.95), rel=0.25)


def test_the_smallest_fleet_keeps_its_promise_and_one_less_does_not() -> None:
    servers = queueing.smallest_servers(200, 0.05, 0.5, slo_seconds=0.02, quantile=0.95)

    assert queueing.wait(servers, 200, 0.05, 0.5).quantile(0.95) <= 0.02
    assert queueing.wait(servers - 1, 200, 0.05, 0.5).quantile(0.95) > 0.02


def test_no_wait_at_all_means_a_free_server_for_that_share() -> None:
    servers = queueing.smallest_servers(10, 1, 1, slo_seconds=0, quantile=0.8)

    assert queueing.erlang_c(servers, 10) <= 0.2 < queueing.erlang_c(servers - 1, 10)


def test_a_call_centre_is_staffed() -> None:
    # 100 calls in half an hour, three minutes each, 80 % to be answered within 20 seconds: 13
    # agents answer 79.6 % in time and 14 answer 88.8 %.
    wait = queueing.wait(servers=14, rate=100 / 1800, mean_run=180)

    assert queueing.smallest_servers(100 / 1800, 180, 1, 20, 0.8) == 14
    assert 1 - wait.exceeds(20) == pytest.approx(0.888, abs=0.0005)


def test_a_fleet_for_a_hundred_thousand_busy_slots_is_found() -> None:
    servers = queueing.smallest_servers(200, 500, 0.5, slo_seconds=1)

    assert 100_000 < servers < 101_000


reals = {"rate": st.floats(0.01, 500), "mean_run": st.floats(0.001, 2), "scv": st.floats(0, 9)}


@settings(max_examples=60, deadline=None)
@given(spare=st.integers(1, 50), quantile=st.floats(0, 0.999), **reals)
def test_more_servers_never_wait_longer(
    rate: float, mean_run: float, scv: float, spare: int, quantile: float
) -> None:
    servers = math.floor(rate * mean_run) + spare

    fewer, more = (queueing.wait(c, rate, mean_run, scv) for c in (servers, servers + 1))

    assert more.chance <= fewer.chance
    assert more.mean <= fewer.mean * (1 + 1e-9)
    assert more.quantile(quantile) <= fewer.quantile(quantile) * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(spare=st.integers(1, 50), more=st.floats(0, 5), **reals)
def test_more_variable_runs_never_wait_less(
    rate: float, mean_run: float, scv: float, spare: int, more: float
) -> None:
    servers = math.floor(rate * mean_run) + spare

    steady = queueing.wait(servers, rate, mean_run, scv)
    unsteady = queueing.wait(servers, rate, mean_run, scv + more)

    assert unsteady.mean >= steady.mean * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(slo=st.floats(0, 10), quantile=st.floats(0, 0.999), **reals)
def test_a_fleet_is_never_overloaded_and_never_larger_than_needed(
    rate: float, mean_run: float, scv: float, slo: float, quantile: float
) -> None:
    servers = queueing.smallest_servers(rate, mean_run, scv, slo, quantile)

    assert servers > rate * mean_run
    assert queueing.wait(servers, rate, mean_run, scv).quantile(quantile) <= slo
    if servers > 1:
        assert queueing.wait(servers - 1, rate, mean_run, scv).quantile(quantile) > slo


def test_slots_are_littles_law_over_the_utilisation() -> None:
    assert queueing.slots_for(200, 0.25, 0.8) == 63
    assert queueing.slots_for(200, 0.25, 1) == 50
    assert queueing.slots_for(0.001, 0.001) == 1
    assert queueing.slots_for(7, 1, 0.7) == 10  # and not 11 for a rounding error


def test_workers_have_at_least_the_slots_asked_for() -> None:
    assert queueing.workers_for(1, 100) == 1
    assert queueing.workers_for(100, 100) == 1
    assert queueing.workers_for(101, 100) == 2


def test_a_size_meets_both_demands() -> None:
    strict = queueing.size(200, 0.05, 1, 0.001, slots_per_worker=4, utilisation=0.9)
    patient = queueing.size(200, 0.05, 1, 60, slots_per_worker=4, utilisation=0.5)

    assert strict.for_wait > strict.for_utilisation
    assert patient.for_utilisation > patient.for_wait
    for size, slo in ((strict, 0.001), (patient, 60)):
        assert size.slots == size.workers * 4 >= max(size.for_wait, size.for_utilisation)
        assert size.slots - 4 < max(size.for_wait, size.for_utilisation)
        assert size.utilisation == pytest.approx(10 / size.slots)
        assert size.wait.quantile(0.95) <= slo


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: queueing.erlang_c(0, 1), "servers must be 1 or more, got 0"),
        (lambda: queueing.erlang_c(1, -1), "got -1"),
        (lambda: queueing.erlang_b(1, math.nan), "got nan"),
        (lambda: queueing.wait(1, 0, 1), "must be positive, got 0 a second"),
        (lambda: queueing.wait(1, 1, math.inf), "inf s"),
        (lambda: queueing.wait(2, 1, 1, -0.1), "got -0.1"),
        (lambda: queueing.wait(2, 1, 1).quantile(1), "below 1, got 1"),
        (lambda: queueing.slots_for(1, 1, 0), "utilisation must be above 0"),
        (lambda: queueing.slots_for(1, 1, 1.1), "got 1.1"),
        (lambda: queueing.workers_for(0, 1), "got 0 and 1 a worker"),
        (lambda: queueing.smallest_servers(1, 1, 1, -1), "0 seconds or more, got -1"),
        (lambda: queueing.smallest_servers(1e9, 60, 1, 1), "check the units"),
    ],
)
def test_senseless_questions_are_refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


def _simulated(
    runs: Callable[[np.random.Generator, int], Runs], servers: int, rate: float, jobs: int
) -> Runs:
    """The waits of Poisson arrivals, first come first served, the first tenth left out."""
    random = np.random.default_rng(11)
    arrivals = np.cumsum(random.exponential(1 / rate, jobs)).tolist()
    free = [0.0] * servers
    waits = []
    for arrival, run in zip(arrivals, runs(random, jobs).tolist(), strict=True):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + run)
        waits.append(start - arrival)
    return np.array(waits[jobs // 10 :])
