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
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares, nnls  # type: ignore[import-untyped]  # has no stubs
from scipy.special import fdtrc, ndtri, stdtrit  # type: ignore[import-untyped]  # has no stubs

Array: TypeAlias = npt.NDArray[np.float64]

COEFFICIENTS: Final = 3
LEVEL: Final = 0.95  # of every interval
WORTHWHILE: Final = 0.95  # of the best throughput: what the recommended count reaches
# A β that adds less than this to the cost of a job at the largest count is as good as none, and an
# efficiency that may be above LINEAR there is as good as a straight line. Both are arbitrary.
NEGLIGIBLE_COST: Final = 1e-3
LINEAR: Final = 0.95
ENOUGH_COUNTS: Final = 6  # the least that Gunther and R's usl package are content with
LARGE_SCATTER: Final = 0.10  # of the mean throughput; arbitrary
LACK_OF_FIT: Final = 0.01  # level of that test; arbitrary


class Verdict(StrEnum):
    LINEAR = "linear"
    CONTENTION = "contention-limited"
    COHERENCY = "coherency-limited"


class Estimate(NamedTuple):
    """A figure with its 95 % bootstrap interval; ``error`` is its asymptotic standard error."""

    value: float
    low: float
    high: float
    error: float | None = None


class Recommendation(NamedTuple):
    count: int
    low: int
    high: int


class Prediction(NamedTuple):
    """Throughput at a count, with its 95 % band; beyond the measured counts it is extrapolated."""

    count: float
    throughput: float
    low: float
    high: float
    extrapolated: bool


class Gain(NamedTuple):
    """What other workers add to the throughput, ``share`` being that over what was there before."""

    added: float
    low: float
    high: float
    share: float
    extrapolated: bool


class Amdahl(NamedTuple):
    """The fit without β, and how likely so much worse a fit would be if β were really 0.

    ``p_value`` is of the extra-sum-of-squares F test (D. M. Bates and D. G. Watts, *Nonlinear
    Regression Analysis*, 1988, 3.10), halved because β cannot be below 0 (S. G. Self and
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
        if any(count <= 0 for count in counts):
            raise ValueError(f"counts must be above 0, got {list(counts)}")
        at = np.asarray(counts, dtype=float)
        low, high = _interval(_law(at, self._draws))
        rows = zip(at, _law(at, self._point)[0], low, high, strict=True)
        return [Prediction(*map(float, row), self.extrapolates(float(row[0]))) for row in rows]

    def gain(self, now: float, then: float) -> Gain:
        """What going from ``now`` to ``then`` workers adds to the throughput."""
        at = np.array([now, then], dtype=float)
        before, after = _law(at, self._point)[0]
        low, high = _interval(np.diff(_law(at, self._draws)))
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
    one measurement at each, which leaves nothing to resample within a count. The residuals are
    divided by √(1−leverage) and centred (A. C. Davison and D. V. Hinkley, *Bootstrap Methods and
    their Application*, 1997, 6.2.3 and 7.4); and stretched by the ratio of Student's to the normal
    quantile, for without it the intervals of a handful of measurements are too short. The same
    ``seed`` gives the same intervals.

    Raises:
        ValueError: the lengths differ, a value is not a positive number, there are fewer than four
            measurements or three different counts, or fewer than 40 resamples.
    """
    at, measured = _checked(counts, throughputs, resamples)
    unit = float(np.max(measured / at))  # so that γ is near 1, whatever the unit
    y = measured / unit
    full, amdahl = _least_squares(at, y)
    degrees = len(y) - COEFFICIENTS
    residuals = y - _law(at, full)[0]
    slopes = _slopes(at, full)[0]
    spread = math.sqrt(float(residuals @ residuals) / degrees)
    errors = spread * np.sqrt(np.diag(np.linalg.pinv(slopes.T @ slopes)))

    draws = _bootstrap(at, y, full, slopes, np.random.default_rng(seed), resamples)
    lows, highs = _interval(draws)
    scale = np.array([1.0, 1.0, unit])
    alpha, beta, gamma = (
        Estimate(*map(float, row))
        for row in zip(full[0] * scale, lows * scale, highs * scale, errors * scale, strict=True)
    )
    draws = draws * scale
    smallest, largest = float(at.min()), float(at.max())
    peak = top = None
    if beta.low * largest * (largest - 1) > NEGLIGIBLE_COST:
        peak = _estimate(_peak(full), _peak(draws))
        top = _estimate(_top(full * scale), _top(draws))
    worthwhile = _worthwhile(draws, smallest, largest)
    low, high = _interval(worthwhile)
    return Fit(
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        residual_error=spread * unit,
        verdict=_verdict(full, draws, peak, largest),
        peak=peak,
        peak_throughput=top,
        recommended=Recommendation(
            int(_worthwhile(full, smallest, largest)[0]), int(low), int(high)
        ),
        amdahl=_compared(at, y, full, amdahl, unit),
        warnings=tuple(_warnings(at, y, full, spread, peak)),
        smallest=smallest,
        largest=largest,
        _draws=draws,
    )


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


# Parameters below are rows of (α, β, γ), shaped (sets, 3); curves are shaped (sets, counts).


def _cost(at: Array, sets: Array) -> Array:
    alpha, beta = sets[:, [0]], sets[:, [1]]
    return 1 + alpha * (at - 1) + beta * at * (at - 1)


def _law(at: Array, sets: Array) -> Array:
    return sets[:, [2]] * at / _cost(at, sets)


def _slopes(at: Array, sets: Array) -> Array:
    """The derivatives of the law by α, β and γ, shaped (sets, counts, 3)."""
    cost = _cost(at, sets)
    by_gamma = at / cost
    by_alpha = -sets[:, [2]] * by_gamma * (at - 1) / cost
    return np.stack([by_alpha, by_alpha * at, by_gamma], axis=-1)


def _peak(sets: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sets[:, 1] > 0, np.sqrt((1 - sets[:, 0]) / sets[:, 1]), np.inf)


def _top(sets: Array) -> Array:
    """The throughput at the peak, or what it tends to where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        at_peak = _law(_peak(sets)[:, None], sets)[:, 0]
        return np.where(sets[:, 1] > 0, at_peak, sets[:, 2] / sets[:, 0])


def _least_squares(at: Array, y: Array) -> tuple[Array, Array]:
    """The best (α, β, γ), and the best with β = 0.

    A solver that stays inside its bounds ends beside a bound and never on it, so the faces α = 0
    and β = 0 are solved as well, and win unless the inside is better.
    """
    inside, no_alpha, no_beta = (_solve(at, y, free) for free in ((0, 1, 2), (1, 2), (0, 2)))
    best = min((no_beta, no_alpha), key=lambda found: _loss(at, y, found))
    if _loss(at, y, inside) < _loss(at, y, best) * (1 - 1e-9):
        best = inside
    return best, no_beta


def _solve(at: Array, y: Array, free: tuple[int, ...]) -> Array:
    """The best of several starts with the coefficients ``free``, the others 0.

    N/X is linear in 1/γ, α/γ and β/γ, so linear least squares without negative coefficients,
    weighted to first order by what that does to the errors, starts next to the solution.
    """
    columns = np.column_stack([at - 1, at * (at - 1), np.ones_like(at)])[:, free]
    weight = y**2 / at
    linear = nnls(columns * weight[:, None], at / y * weight)[0]
    guess = np.zeros(COEFFICIENTS)
    guess[list(free)] = linear / max(linear[-1], 1e-6)
    guess[2] = 1 / max(linear[-1], 1e-6)
    chosen = list(free)

    def whole(part: Array) -> Array:
        sets = np.zeros((1, COEFFICIENTS))
        sets[0, chosen] = part
        return sets

    lower = np.zeros(len(chosen))
    upper = np.array([1.0, 1.0, np.inf])[chosen]
    answers = []
    for start in (guess, np.array([0.01, 1e-4, 1.0]), np.array([0.3, 1e-2, 1.0])):
        answer = least_squares(
            lambda part: _law(at, whole(part))[0] - y,
            np.clip(start[chosen], 1e-9, np.minimum(upper - 1e-9, 1e6)),
            jac=lambda part: _slopes(at, whole(part))[0][:, chosen],
            bounds=(lower, upper),
            x_scale="jac",
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        answers.append(whole(answer.x))
    return min(answers, key=lambda found: _loss(at, y, found))


def _loss(at: Array, y: Array, sets: Array) -> float:
    return float(np.sum((_law(at, sets)[0] - y) ** 2))


def _bootstrap(
    at: Array, y: Array, full: Array, slopes: Array, random: np.random.Generator, resamples: int
) -> Array:
    fitted = _law(at, full)[0]
    leverage = np.sum(np.linalg.qr(slopes).Q ** 2, axis=1)
    residuals = (y - fitted) / np.sqrt(np.maximum(1 - leverage, 1e-4))
    residuals -= residuals.mean()
    residuals *= _student(len(y) - COEFFICIENTS)
    samples = fitted + random.choice(residuals, size=(resamples, len(y)))
    return _refit(at, samples, full)


def _student(degrees: int) -> float:
    upper = (1 + LEVEL) / 2
    return float(stdtrit(degrees, upper) / ndtri(upper))


def _refit(at: Array, samples: Array, start: Array) -> Array:
    """Least squares for every row of ``samples`` at once, from one warm start; shaped (rows, 3).

    Levenberg-Marquardt, projected on the bounds: a coefficient at a bound is held there while the
    gradient presses it outwards.
    """
    sets = np.repeat(start, len(samples), axis=0)
    lower, upper = np.array([0.0, 0.0, 1e-9]), np.array([1.0, 1.0, np.inf])
    errors = _law(at, sets) - samples
    losses = np.sum(errors**2, axis=1)
    damping = np.full(len(samples), 1e-3)
    for _ in range(100):
        slopes = _slopes(at, sets)
        gradient = np.einsum("rnk,rn->rk", slopes, errors)
        held = ((sets <= lower) & (gradient > 0)) | ((sets >= upper) & (gradient < 0))
        gradient[held] = 0
        slopes[np.broadcast_to(held[:, None, :], slopes.shape)] = 0
        normal = np.einsum("rnj,rnk->rjk", slopes, slopes)
        diagonal = np.einsum("rkk->rk", normal)  # a view: written through
        diagonal += damping[:, None] * diagonal + held + 1e-300
        moved = np.clip(
            sets - np.linalg.solve(normal, gradient[..., None])[..., 0], lower, upper
        )
        tried = _law(at, moved) - samples
        tried_losses = np.sum(tried**2, axis=1)
        better = tried_losses < losses
        gained = np.where(better, losses - tried_losses, 0)
        settled = np.where(better, gained <= 1e-10 * losses, damping > 1e6)
        sets[better], errors[better] = moved[better], tried[better]
        losses = np.where(better, tried_losses, losses)
        damping = np.clip(np.where(better, damping / 10, damping * 10), 1e-12, 1e9)
        if settled.all():
            break
    return sets


def _interval(draws: Array) -> tuple[Array, Array]:
    # The nearest rank, not between two: peaks and counts may be infinite or whole.
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0, method="nearest")
    return low, high


def _estimate(value: Array, draws: Array) -> Estimate:
    low, high = _interval(draws)
    return Estimate(float(value[0]), float(low), float(high))


def _worthwhile(sets: Array, smallest: float, largest: float) -> Array:
    """The smallest whole counts that reach 95 % of each set's best throughput in the range.

    X(N) = T is quadratic in N; its smaller root is written so that β = 0 needs no case of its own.
    """
    best_at = np.clip(_peak(sets), smallest, largest)
    target = WORTHWHILE * _law(best_at[:, None], sets)[:, 0]
    alpha, beta, gamma = sets.T
    square, linear, constant = target * beta, gamma - target * (alpha - beta), target * (1 - alpha)
    root = 2 * constant / (linear + np.sqrt(np.maximum(linear**2 - 4 * square * constant, 0)))
    first = max(1, math.ceil(smallest))
    counts: Array = np.clip(np.ceil(root - 1e-9), first, max(first, math.floor(largest)))
    return counts


def _verdict(full: Array, draws: Array, peak: Estimate | None, largest: float) -> Verdict:
    """What takes most of the throughput at the largest count, if anything is seen to."""
    _, most_efficient = _interval(1 / _cost(np.array([largest]), draws)[:, 0])
    if most_efficient >= LINEAR:
        return Verdict.LINEAR
    contention = full[0, 0] * (largest - 1)
    coherency = full[0, 1] * largest * (largest - 1)
    if peak is not None and (peak.value <= largest or coherency >= contention):
        return Verdict.COHERENCY
    return Verdict.CONTENTION


def _compared(at: Array, y: Array, full: Array, amdahl: Array, unit: float) -> Amdahl:
    degrees = len(y) - COEFFICIENTS
    loss, plain = _loss(at, y, full), _loss(at, y, amdahl)
    exact = plain <= 1e-20 * len(y)  # nothing is left that β could explain
    ratio = 0.0 if exact else max(plain - loss, 0) * degrees / max(loss, 1e-300)
    p_value = fdtrc(1, degrees, ratio) / 2 if ratio > 0 else 1.0
    residual_error = math.sqrt(plain / (degrees + 1)) * unit
    return Amdahl(float(amdahl[0, 0]), float(amdahl[0, 2] * unit), residual_error, float(p_value))


def _warnings(
    at: Array, y: Array, full: Array, spread: float, peak: Estimate | None
) -> list[str]:
    said = []
    different = np.unique(at)
    if len(different) < ENOUGH_COUNTS:
        said.append(
            f"Only {len(different)} different counts were measured: "
            f"with fewer than {ENOUGH_COUNTS} the coefficients are rough."
        )
    if different[0] != 1:
        said.append(
            f"There is no measurement at 1: what one does alone (γ) is inferred from {_n(different[0])} upwards."
        )
    if len(different) == len(at):
        said.append(
            "Each count was measured once, so noise cannot be told from a curve that does not fit."
        )
    scatter = spread / float(y.mean())
    if scatter > LARGE_SCATTER:
        said.append(f"The measurements scatter by {scatter:.0%} around the curve: do not rely on it.")
    means = np.array([y[at == count].mean() for count in different])
    if _lacks_fit(at, y, different, means, full):
        said.append(
            "The measurements miss the curve by more than they differ among themselves: "
            "something other than contention and coherency changes with the count."
        )
    each = means / different
    best = int(np.argmax(each))
    if each[best] > each[0] * 1.05:
        said.append(
            f"One of {_n(different[best])} does more than one of {_n(different[0])}: "
            "the law knows no such gain, so suspect the smaller count's measurement (a cold start?)."
        )
    if full[0, 0] >= 1 or full[0, 1] >= 1:
        said.append("A coefficient is at its limit of 1: throughput hardly grows or falls at once.")
    if peak is not None and peak.value > different[-1]:
        said.append(
            f"The peak, at {peak.value:.3g}, lies beyond the largest count measured "
            f"({_n(different[-1])}): it is an extrapolation."
        )
    return said


def _lacks_fit(at: Array, y: Array, different: Array, means: Array, full: Array) -> bool:
    """The F test of pure error: D. M. Bates and D. G. Watts, 1988, 1.3.2."""
    pure = float(np.sum((y - means[np.searchsorted(different, at)]) ** 2))
    between, within = len(different) - COEFFICIENTS, len(y) - len(different)
    if not (between and within and pure):
        return False
    ratio = max(_loss(at, y, full) - pure, 0) / between / (pure / within)
    return bool(fdtrc(between, within, ratio) < LACK_OF_FIT)


def _n(count: float) -> str:
    return f"{count:g}"
