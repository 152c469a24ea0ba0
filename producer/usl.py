"""Fits the Universal Scalability Law to measured throughput: how many workers are worth having.

The law (N. J. Gunther, *Guerrilla Capacity Planning*, Springer 2007; with γ as a third coefficient:
"USL Scalability Modeling with Three Parameters", 2018) says that N workers together do

    X(N) = γN / (1 + α(N−1) + βN(N−1))

jobs a second: γ is what one does alone, α the share of the work that queues for something held in
common (contention), β the cost of keeping each two of them consistent (coherency). β = 0 leaves
Amdahl's law; α = β = 0 a straight line. With β > 0 throughput peaks at N* = √((1−α)/β).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from scipy.special import fdtrc  # type: ignore[import-untyped]  # has no stubs

from producer import usl_curve
from producer.usl_curve import COEFFICIENTS, LEVEL, Array

WORTHWHILE: Final = 0.95  # of the best throughput: what the recommended count reaches
# A β that adds less than this to the cost of a job at the largest count is as good as none, and an
# efficiency that may be above LINEAR there is as good as a straight line. Both are arbitrary.
NEGLIGIBLE_COST: Final = 1e-3
LINEAR: Final = 0.95
ENOUGH_COUNTS: Final = 6  # the least that Gunther and R's usl package are content with
LARGE_SCATTER: Final = 0.10  # of the throughput; arbitrary
LACK_OF_FIT: Final = 0.01  # level of that test; arbitrary


class Verdict(StrEnum):
    LINEAR = "linear"
    CONTENTION = "contention-limited"
    COHERENCY = "coherency-limited"


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval; ``error`` is its asymptotic standard error."""

    value: float
    low: float
    high: float
    error: float | None = None


@dataclass(frozen=True)
class Recommendation:
    count: int
    low: int
    high: int


@dataclass(frozen=True)
class Prediction:
    """Throughput at a count, with its 95 % band; beyond the measured counts it is extrapolated."""

    count: float
    throughput: float
    low: float
    high: float
    extrapolated: bool


@dataclass(frozen=True)
class Gain:
    """What other workers add to the throughput, ``share`` being that over what was there before."""

    added: float
    low: float
    high: float
    share: float
    extrapolated: bool


@dataclass(frozen=True)
class Amdahl:
    """The fit without β, and how likely so much worse a fit would be if β were really 0.

    ``p_value`` is of the extra-sum-of-squares F test (D. M. Bates and D. G. Watts, *Nonlinear
    Regression Analysis*, 1988), halved because β cannot be below 0 (S. G. Self and
    K.-Y. Liang, JASA 82, 1987).
    """

    alpha: float
    gamma: float
    residual_error: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Fit:
    """A law fitted to measurements. Throughputs are in the unit in which they were given.

    ``peak`` and ``peak_throughput`` are None when β may as well be 0: there is no peak then.
    ``recommended`` is the smallest whole count that reaches 95 % of the best throughput predicted
    within the measured counts, so it is never extrapolated. ``residual_error`` is the standard
    deviation of the measurements around the curve.
    """

    alpha: Estimate
    beta: Estimate
    gamma: Estimate
    residual_error: float
    verdict: Verdict
    peak: Estimate | None
    peak_throughput: Estimate | None
    recommended: Recommendation
    amdahl: Amdahl
    warnings: tuple[str, ...]
    smallest: float
    largest: float
    _draws: Array = field(repr=False)

    def predict(self, count: float) -> Prediction:
        return self.band([count])[0]

    def band(self, counts: Sequence[float]) -> list[Prediction]:
        """The curve at ``counts`` with its 95 % band, pointwise; of the mean, not of one run."""
        at = _positive(counts)
        low, high = _interval(usl_curve.curve(at, self._draws))
        rows = zip(at, usl_curve.curve(at, self._point)[0], low, high, strict=True)
        return [
            Prediction(float(n), float(x), float(lo), float(hi), self.extrapolates(float(n)))
            for n, x, lo, hi in rows
        ]

    def gain(self, now: float, then: float) -> Gain:
        """What going from ``now`` to ``then`` workers adds to the throughput."""
        at = _positive([now, then])
        before, after = usl_curve.curve(at, self._point)[0]
        low, high = _interval(np.diff(usl_curve.curve(at, self._draws)))
        extrapolated = self.extrapolates(now) or self.extrapolates(then)
        added = float(after - before)
        return Gain(added, float(low[0]), float(high[0]), added / float(before), extrapolated)

    def extrapolates(self, count: float) -> bool:
        return not self.smallest <= count <= self.largest

    @property
    def _point(self) -> Array:
        return np.array([[self.alpha.value, self.beta.value, self.gamma.value]])


def fit(
    counts: Sequence[float],
    throughputs: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Fit:
    """Fit the law by least squares on the raw throughputs, α and β within [0, 1] and γ above 0.

    Both sequences are equally long; a count may come several times. The intervals are percentiles
    of a bootstrap that resamples residuals: the counts are chosen, not drawn, and there is often
    one measurement at each, which leaves nothing to resample within a count (the source is with
    ``usl_curve.resampled``). In simulations with noise of one size the intervals held the truth in
    90 to 99 of 100 cases; where the noise grows with the throughput, the band at the largest
    counts is too narrow (75 to 85 of 100). The same ``seed`` gives the same intervals.

    Raises:
        ValueError: the lengths differ, a value is not a positive number, there are fewer than four
            measurements or three different counts, or fewer than 40 resamples.
    """
    at, measured = _checked(counts, throughputs, resamples)
    unit = float(np.max(measured / at))  # so that γ is near 1, whatever the unit
    y = measured / unit
    full, amdahl = usl_curve.solve(at, y)
    degrees = len(y) - COEFFICIENTS
    residuals = y - usl_curve.curve(at, full)[0]
    spread = math.sqrt(float(residuals @ residuals) / degrees)
    errors = spread * usl_curve.unit_errors(at, full)

    draws = usl_curve.resampled(at, y, full, np.random.default_rng(seed), resamples)
    lows, highs = _interval(draws)
    scale = np.array([1.0, 1.0, unit])
    alpha, beta, gamma = (
        Estimate(*map(float, row))
        for row in zip(full[0] * scale, lows * scale, highs * scale, errors * scale, strict=True)
    )
    draws = draws * scale
    smallest, largest = float(min(counts)), float(max(counts))
    peak = top = None
    if beta.low * largest * (largest - 1) > NEGLIGIBLE_COST:
        peak = _estimate(usl_curve.peak(full), usl_curve.peak(draws))
        top = _estimate(usl_curve.top(full * scale), usl_curve.top(draws))
    low, high = _interval(usl_curve.first_reaching(WORTHWHILE, draws, smallest, largest))
    return Fit(
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        residual_error=spread * unit,
        verdict=_verdict(full, draws, peak, largest),
        peak=peak,
        peak_throughput=top,
        recommended=Recommendation(
            int(usl_curve.first_reaching(WORTHWHILE, full, smallest, largest)[0]),
            int(low),
            int(high),
        ),
        amdahl=_compared(at, y, full, amdahl, unit),
        warnings=tuple(_warnings(at, y, full, spread, peak)),
        smallest=smallest,
        largest=largest,
        _draws=draws,
    )


def _positive(counts: Sequence[float]) -> Array:
    if not all(0 < count < math.inf for count in counts):
        raise ValueError(f"counts must be above 0, got {list(counts)}")
    return np.asarray(counts, dtype=float)


def _checked(
    counts: Sequence[float], throughputs: Sequence[float], resamples: int
) -> tuple[Array, Array]:
    if len(counts) != len(throughputs):
        raise ValueError(f"{len(counts)} counts, but {len(throughputs)} throughputs")
    for count, throughput in zip(counts, throughputs, strict=True):
        if not (0 < count < math.inf and 0 < throughput < math.inf):
            raise ValueError(
                "a count and its throughput must be positive numbers, "
                f"got {throughput} at {count}: leave that measurement out or repeat it"
            )
    different = len(set(counts))
    if len(counts) <= COEFFICIENTS or different < COEFFICIENTS:
        raise ValueError(
            "three coefficients need four measurements at three different counts or more, "
            f"got {len(counts)} at {different}: measure at more counts"
        )
    if resamples < 40:  # fewer have no 2.5th percentile
        raise ValueError(f"an interval needs 40 resamples or more, got {resamples}")
    return np.asarray(counts, dtype=float), np.asarray(throughputs, dtype=float)


def _interval(draws: Array) -> tuple[Array, Array]:
    # The nearest rank, not between two: peaks and counts may be infinite or whole.
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0, method="nearest")
    return low, high


def _estimate(value: Array, draws: Array) -> Estimate:
    low, high = _interval(draws)
    return Estimate(float(value[0]), float(low), float(high))


def _verdict(full: Array, draws: Array, peak: Estimate | None, largest: float) -> Verdict:
    """What takes most of the throughput at the largest count, if anything is seen to."""
    _, most_efficient = _interval(1 / usl_curve.cost(np.array([largest]), draws)[:, 0])
    if most_efficient >= LINEAR:
        return Verdict.LINEAR
    contention = full[0, 0] * (largest - 1)
    coherency = full[0, 1] * largest * (largest - 1)
    if peak is not None and (peak.value <= largest or coherency >= contention):
        return Verdict.COHERENCY
    return Verdict.CONTENTION


def _compared(at: Array, y: Array, full: Array, amdahl: Array, unit: float) -> Amdahl:
    degrees = len(y) - COEFFICIENTS
    loss, plain = usl_curve.loss(at, y, full), usl_curve.loss(at, y, amdahl)
    exact = plain <= 1e-20 * len(y)  # nothing is left that β could explain
    ratio = 0.0 if exact else max(plain - loss, 0) * degrees / max(loss, 1e-300)
    p_value = fdtrc(1, degrees, ratio) / 2 if ratio > 0 else 1.0
    residual_error = math.sqrt(plain / (degrees + 1)) * unit
    return Amdahl(float(amdahl[0, 0]), float(amdahl[0, 2] * unit), residual_error, float(p_value))


def _warnings(at: Array, y: Array, full: Array, spread: float, peak: Estimate | None) -> list[str]:
    said = []
    different = np.unique(at)
    if len(different) < ENOUGH_COUNTS:
        said.append(
            f"Only {len(different)} different counts were measured: "
            f"with fewer than {ENOUGH_COUNTS} the coefficients are rough."
        )
    if different[0] != 1:
        said.append(
            "There is no measurement at 1: "
            f"what one does alone (γ) is inferred from {_n(different[0])} upwards."
        )
    if len(different) == len(at):
        said.append(
            "Each count was measured once, so noise cannot be told from a curve that does not fit."
        )
    scatter = spread / float(y.mean())
    if scatter > LARGE_SCATTER:
        said.append(
            f"The measurements scatter by {scatter:.0%} around the curve: do not rely on it."
        )
    means = np.array([y[at == count].mean() for count in different])
    if _lacks_fit(at, y, different, means, full):
        said.append(
            "The measurements miss the curve by more than they differ among themselves: "
            "something other than contention and coherency changes with the count."
        )
    each = means / different
    best = int(np.argmax(each))
    if each[best] > each[0] * (1 + LARGE_SCATTER):
        said.append(
            f"Each of {_n(different[best])} does more than each of {_n(different[0])}: the law "
            "knows no such gain, so suspect the smaller count's measurement (a cold start?)."
        )
    if max(full[0, :2]) > 0.999:  # the solver ends beside a bound, not on it
        said.append("A coefficient is at its limit of 1: throughput hardly grows or falls at once.")
    if peak is not None and peak.value > different[-1]:
        said.append(
            f"The peak, at {peak.value:.3g}, lies beyond the largest count measured "
            f"({_n(different[-1])}): it is an extrapolation."
        )
    return said


def _lacks_fit(at: Array, y: Array, different: Array, means: Array, full: Array) -> bool:
    """The F test of lack of fit against the scatter within counts (Bates and Watts, 1988)."""
    pure = float(np.sum((y - means[np.searchsorted(different, at)]) ** 2))
    between, within = len(different) - COEFFICIENTS, len(y) - len(different)
    if not (between and within and pure):
        return False
    ratio = max(usl_curve.loss(at, y, full) - pure, 0) / between / (pure / within)
    return bool(fdtrc(between, within, ratio) < LACK_OF_FIT)


def _n(count: float) -> str:
    return f"{count:g}"
