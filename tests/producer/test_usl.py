"""The Universal Scalability Law's fit, against published fits and against itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer import usl, usl_curve
from producer.usl import Verdict


class Published(NamedTuple):
    counts: Sequence[float]
    throughputs: Sequence[float]
    alpha: float
    beta: float
    gamma: float
    peak: float | None
    peak_throughput: float | None


# SPEC SDM91 on a Sun SPARCcenter 2000, users and scripts an hour: data set `specsdm91` of the R
# package usl 3.0.3 (CRAN); coefficients by its methods nls and nlxb, which are least squares on the
# raw throughput (its vignette and tests/summary.Rout.save; the peak from tests/peak-scalability.R).
SPECSDM91 = Published(
    [1, 18, 36, 72, 108, 144, 216],
    [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2],
    alpha=0.0277285,
    beta=0.0001044,
    gamma=89.9952384,
    peak=96.51956,
    peak_throughput=1884,
)
# Ray tracing on an SGI Origin 2000, processors and ray intersections a second: data set `raytracer`
# of the same package and Gunther's Guerrilla Capacity Planning, 2007; coefficients from the
# vignette, which finds β = 0 and no peak.
RAYTRACER = Published(
    [1, 4, 8, 12, 16, 20, 24, 28, 32, 48, 64],
    [20, 78, 130, 170, 190, 200, 210, 230, 260, 280, 310],
    alpha=0.057771,
    beta=0.0,
    gamma=21.848843,
    peak=None,
    peak_throughput=None,
)
# Its first six rows alone (the package's tests/confint.Rout.save; the peak follows from those).
RAYTRACER_TO_20 = Published(
    RAYTRACER.counts[:6],
    RAYTRACER.throughputs[:6],
    alpha=0.02444,
    beta=0.00163,
    gamma=20.85605,
    peak=math.sqrt((1 - 0.02444) / 0.00163),
    peak_throughput=None,
)
# Calculated from α = β = 0.02 and γ = 1, to four decimals (the package's tests/coef.Rout.save).
CALCULATED = Published(
    [1, 2, 4, 6, 8, 10],
    [1, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557],
    alpha=0.02,
    beta=0.02,
    gamma=1.0,
    peak=7.0,
    peak_throughput=None,
)
# The Cisco benchmark, concurrency and throughput, of B. Schwartz, Practical Scalability
# Analysis with the Universal Scalability Law, 2015; data and coefficients as C. Hale's usl4j quotes
# them from the book (ModelTest.java). The book rounds the peak to 35; its own coefficients give
# √((1 − 0.02671591) / 0.0007690945).
# fmt: off
CISCO_THROUGHPUTS = [
    955.16, 1878.91, 2688.01, 3548.68, 4315.54, 5130.43, 5931.37, 6531.08,
    7219.8, 7867.61, 8278.71, 8646.7, 9047.84, 9426.55, 9645.37, 9897.24,
    10097.6, 10240.5, 10532.39, 10798.52, 11151.43, 11518.63, 11806, 12089.37,
    12075.41, 12177.29, 12211.41, 12158.93, 12155.27, 12118.04, 12140.4, 12074.39,
]
# fmt: on
CISCO = Published(
    list(range(1, 33)),
    CISCO_THROUGHPUTS,
    alpha=0.02671591,
    beta=7.690945e-4,
    gamma=995.6486,
    peak=35.5738,
    peak_throughput=12341,
)
PUBLISHED = {
    "specsdm91": SPECSDM91,
    "raytracer": RAYTRACER,
    "raytracer to 20": RAYTRACER_TO_20,
    "calculated": CALCULATED,
    "cisco": CISCO,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_fit_is_reproduced_within_one_percent(name: str) -> None:
    published = PUBLISHED[name]

    fit = usl.fit(published.counts, published.throughputs)

    assert fit.alpha.value == pytest.approx(published.alpha, rel=0.01)
    assert fit.beta.value == pytest.approx(published.beta, rel=0.01, abs=1e-12)
    assert fit.gamma.value == pytest.approx(published.gamma, rel=0.01)
    if published.peak is None:
        assert fit.peak is None
        assert fit.peak_throughput is None
    else:
        assert fit.peak is not None
        assert fit.peak.value == pytest.approx(published.peak, rel=0.01)
    if published.peak_throughput is not None:
        assert fit.peak_throughput is not None
        assert fit.peak_throughput.value == pytest.approx(published.peak_throughput, rel=0.01)


def test_published_standard_errors_are_reproduced() -> None:
    # From the summaries of the same vignette.
    spec = usl.fit(SPECSDM91.counts, SPECSDM91.throughputs)
    rays = usl.fit(RAYTRACER.counts, RAYTRACER.throughputs)

    assert spec.alpha.error == pytest.approx(0.0091217, rel=0.01)
    assert spec.beta.error == pytest.approx(0.0000199, rel=0.01)
    assert spec.gamma.error == pytest.approx(14.2134906, rel=0.01)
    assert spec.residual_error == pytest.approx(82.85, rel=0.01)
    assert rays.alpha.error == pytest.approx(0.013293, rel=0.01)
    assert rays.beta.error == pytest.approx(0.000118, rel=0.01)
    assert rays.gamma.error == pytest.approx(2.196165, rel=0.01)
    assert rays.residual_error == pytest.approx(9.34, rel=0.01)


def test_published_predictions_are_reproduced_and_marked_as_extrapolated() -> None:
    fit = usl.fit(RAYTRACER.counts, RAYTRACER.throughputs)

    inside, *beyond = fit.band([64, 96, 128])

    assert [one.throughput for one in beyond] == pytest.approx([323.3, 335.5], rel=0.001)
    assert [one.extrapolated for one in (inside, *beyond)] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("specsdm91", Verdict.COHERENCY),  # falls from 96 users on
        ("raytracer", Verdict.CONTENTION),
        ("cisco", Verdict.CONTENTION),  # as usl4j has it; the peak is beyond the last count
        ("calculated", Verdict.COHERENCY),
    ],
)
def test_the_verdict_names_what_costs_most_at_the_largest_count(
    name: str, verdict: Verdict
) -> None:
    assert usl.fit(*PUBLISHED[name][:2]).verdict is verdict


def test_a_straight_line_is_linear_and_has_no_peak() -> None:
    counts = [1, 2, 3, 4, 6, 8] * 3

    fit = usl.fit(counts, _measured(counts, 0, 0, 50, noise=0.01))

    assert fit.verdict is Verdict.LINEAR
    assert fit.peak is None
    assert fit.recommended.count == 8


def test_the_recommended_count_is_the_smallest_with_95_percent_of_the_best() -> None:
    fit = usl.fit(CISCO.counts, CISCO.throughputs)

    best = max(fit.predict(count).throughput for count in CISCO.counts)
    count = fit.recommended.count

    assert fit.predict(count).throughput >= 0.95 * best
    assert fit.predict(count - 1).throughput < 0.95 * best
    assert fit.recommended.low <= count <= fit.recommended.high


def test_the_recommended_count_is_never_beyond_the_measured_ones() -> None:
    counts = [1, 2, 3, 4, 5, 6]

    fit = usl.fit(counts, _measured(counts, 0.01, 0.0001, 10))

    assert fit.peak is not None
    assert fit.peak.value > 90
    assert fit.recommended.high <= 6
    assert any("extrapolation" in said for said in fit.warnings)


def test_throughput_that_only_falls_recommends_one_worker() -> None:
    fit = usl.fit([1, 2, 3, 4, 6, 8], [100, 80, 66, 55, 42, 33])

    assert fit.recommended.count == 1
    assert fit.verdict is Verdict.COHERENCY


def test_throughput_that_never_grows_recommends_one_worker_with_a_warning() -> None:
    fit = usl.fit([1, 2, 3, 4, 6, 8], [100.0] * 6)

    assert fit.recommended.count == 1
    assert fit.verdict is Verdict.CONTENTION
    assert any("limit of 1" in said for said in fit.warnings)


def test_a_gain_is_the_difference_of_two_predictions() -> None:
    fit = usl.fit(SPECSDM91.counts, SPECSDM91.throughputs)

    more = fit.gain(36, 72)
    too_many = fit.gain(108, 300)

    before, after = fit.predict(36).throughput, fit.predict(72).throughput
    assert more.added == pytest.approx(after - before)
    assert more.share == pytest.approx(after / before - 1)
    assert more.low < more.added < more.high
    assert not more.extrapolated
    assert too_many.added < 0
    assert too_many.extrapolated


def test_a_beta_worth_having_is_told_from_one_that_is_not() -> None:
    coherency = usl.fit(SPECSDM91.counts, SPECSDM91.throughputs).amdahl
    contention = usl.fit(RAYTRACER.counts, RAYTRACER.throughputs).amdahl

    assert coherency.p_value < 0.01
    assert coherency.residual_error == pytest.approx(162.0, rel=0.01)
    assert contention.p_value == 1
    assert contention.alpha == pytest.approx(RAYTRACER.alpha, rel=0.01)


def test_the_same_seed_gives_the_same_intervals() -> None:
    first, same, other = (
        usl.fit(CISCO.counts, CISCO.throughputs, seed=seed, resamples=100) for seed in (1, 1, 2)
    )

    assert first.alpha == same.alpha
    assert first.band([5, 50]) == same.band([5, 50])
    assert first.alpha != other.alpha


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    counts = [1, 2, 3, 4, 6, 8, 12]
    held = {"alpha": 0, "beta": 0, "gamma": 0, "prediction": 0}

    for seed in range(40):
        fit = usl.fit(counts, _measured(counts, 0.03, 0.01, 100, 10, seed), resamples=200)
        held["alpha"] += fit.alpha.low <= 0.03 <= fit.alpha.high
        held["beta"] += fit.beta.low <= 0.01 <= fit.beta.high
        held["gamma"] += fit.gamma.low <= 100 <= fit.gamma.high
        at_eight = fit.predict(8)
        held["prediction"] += at_eight.low <= _law(8, 0.03, 0.01, 100) <= at_eight.high

    assert min(held.values()) >= 33  # 38 expected; fewer than 33 is one chance in 100


def test_all_at_once_finds_what_the_one_by_one_solver_finds() -> None:
    at = np.asarray(RAYTRACER.counts, dtype=float)
    y = np.asarray(RAYTRACER.throughputs, dtype=float) / 20
    best, _ = usl_curve.solve(at, y)
    samples = usl_curve.curve(at, best) + np.random.default_rng(3).normal(0, 0.4, (10, len(y)))

    together = usl_curve.resolve(at, samples, best)

    for sample, found in zip(samples, together, strict=True):
        alone, _ = usl_curve.solve(at, sample)
        assert (
            usl_curve.loss(at, sample, found[None]) <= usl_curve.loss(at, sample, alone) * 1.00001
        )


@settings(max_examples=20, deadline=None)
@given(
    alpha=st.floats(0, 0.9),
    beta=st.floats(0, 0.5),
    gamma=st.floats(1e-6, 1e9),
    counts=st.lists(st.integers(1, 500), min_size=4, max_size=12, unique=True),
)
def test_a_curve_without_noise_is_found_again(
    alpha: float, beta: float, gamma: float, counts: list[int]
) -> None:
    fit = usl.fit(counts, _measured(counts, alpha, beta, gamma), resamples=40)

    for prediction in fit.band(counts):
        truth = _law(prediction.count, alpha, beta, gamma)
        assert prediction.throughput == pytest.approx(truth, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0.01, 1e6)), min_size=6, max_size=20).filter(
        lambda rows: len({count for count, _ in rows}) >= 3
    )
)
def test_whatever_was_measured_the_answer_keeps_its_bounds(rows: list[tuple[int, float]]) -> None:
    counts, throughputs = [row[0] for row in rows], [row[1] for row in rows]

    fit = usl.fit(counts, throughputs, resamples=40)

    assert 0 <= fit.alpha.low <= fit.alpha.high <= 1
    assert 0 <= fit.beta.low <= fit.beta.high <= 1
    assert 0 < fit.gamma.value < math.inf
    assert min(counts) <= fit.recommended.low <= fit.recommended.high <= max(counts)
    assert min(counts) <= fit.recommended.count <= max(counts)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([1, 2, 4, 8, 16], "Only 5 different counts"),
        ([2, 3, 4, 5, 6, 7], "no measurement at 1"),
        ([1, 2, 3, 4, 5, 6], "measured once"),
    ],
)
def test_too_few_measurements_are_warned_of(counts: list[int], said: str) -> None:
    fit = usl.fit(counts, _measured(counts, 0.1, 0.01, 10, noise=0.01))

    assert any(said in warning for warning in fit.warnings)


def test_enough_good_measurements_are_warned_of_nothing() -> None:
    counts = [1, 2, 3, 4, 6, 8, 12] * 3

    assert usl.fit(counts, _measured(counts, 0.1, 0.01, 10, noise=0.1)).warnings == ()


def test_scatter_is_warned_of() -> None:
    counts = [1, 2, 3, 4, 6, 8] * 3

    fit = usl.fit(counts, _measured(counts, 0.1, 0.01, 10, noise=8))

    assert any("scatter" in said for said in fit.warnings)


def test_a_curve_that_does_not_fit_is_told_from_noise() -> None:
    # Throughput that doubles at once from 4 to 6: a second machine, say.
    step = {1: 10.0, 2: 12.0, 3: 13.0, 4: 14.0, 6: 28.0, 8: 29.0}
    rounds = [0.0, 0.2, 0.4]

    fit = usl.fit([*step] * 3, [x + more for more in rounds for x in step.values()])

    assert any("miss the curve" in said for said in fit.warnings)


def test_more_than_proportional_growth_is_suspected() -> None:
    fit = usl.fit([1, 2, 3, 4, 6, 8], [5, 20, 30, 40, 58, 76])

    assert any("cold start" in said for said in fit.warnings)


@pytest.mark.parametrize(
    ("counts", "throughputs", "said"),
    [
        ([1, 2, 3], [1, 2], "3 counts, but 2 throughputs"),
        ([1, 2, 3], [1, 2, 3], "got 3 at 3"),
        ([1, 1, 2, 2, 2], [1, 1, 2, 2, 2], "got 5 at 2"),
        ([], [], "got 0 at 0"),
        ([1, 2, 3, 4], [1, 2, 0, 4], "got 0 at 3"),
        ([1, 2, 3, 4], [1, 2, math.nan, 4], "got nan at 3"),
        ([0, 1, 2, 3], [1, 2, 3, 4], "got 1 at 0"),
    ],
)
def test_measurements_that_cannot_be_fitted_are_refused(
    counts: list[float], throughputs: list[float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        usl.fit(counts, throughputs)


def test_a_count_of_none_cannot_be_predicted() -> None:
    fit = usl.fit(CISCO.counts, CISCO.throughputs, resamples=40)

    with pytest.raises(ValueError, match="above 0"):
        fit.predict(0)
    with pytest.raises(ValueError, match="above 0"):
        fit.gain(0, 1)


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="40 resamples"):
        usl.fit(CISCO.counts, CISCO.throughputs, resamples=39)


def _law(count: float, alpha: float, beta: float, gamma: float) -> float:
    return gamma * count / (1 + alpha * (count - 1) + beta * count * (count - 1))


def _measured(
    counts: Sequence[int],
    alpha: float,
    beta: float,
    gamma: float,
    noise: float = 0,
    seed: int = 7,
) -> list[float]:
    random = np.random.default_rng(seed)
    return [_law(count, alpha, beta, gamma) + random.normal(0, noise) for count in counts]
