"""The Universal Scalability Law as a curve: its values, and its coefficients by least squares.

Coefficients come in sets, rows of (α, β, γ) shaped (sets, 3). Counts are shaped (counts,), or
(sets, 1) for one of each set's own; curves come out shaped (sets, counts). The solvers want
throughputs scaled so that γ is near 1.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares, nnls  # type: ignore[import-untyped]  # has no stubs
from scipy.special import ndtri, stdtrit  # type: ignore[import-untyped]  # has no stubs

Array: TypeAlias = npt.NDArray[np.float64]

COEFFICIENTS: Final = 3
LEVEL: Final = 0.95  # of every interval

LOWER: Final = np.array([0.0, 0.0, 1e-9])
UPPER: Final = np.array([1.0, 1.0, np.inf])


def cost(at: Array, sets: Array) -> Array:
    """The work of a job at each count, over its work at a count of 1."""
    alpha, beta = sets[:, [0]], sets[:, [1]]
    return 1 + alpha * (at - 1) + beta * at * (at - 1)


def curve(at: Array, sets: Array) -> Array:
    return sets[:, [2]] * at / cost(at, sets)


def slopes(at: Array, sets: Array) -> Array:
    """The derivatives of the curve by α, β and γ, shaped (sets, counts, 3)."""
    by_gamma = at / cost(at, sets)
    by_alpha = -sets[:, [2]] * by_gamma * (at - 1) / cost(at, sets)
    return np.stack([by_alpha, by_alpha * at, by_gamma], axis=-1)


def peak(sets: Array) -> Array:
    """The counts where the curves are highest: √((1−α)/β), infinite where β is 0."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(sets[:, 1] > 0, np.sqrt((1 - sets[:, 0]) / sets[:, 1]), np.inf)


def top(sets: Array) -> Array:
    """The throughput at the peak, or what it tends to where there is none."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        limit = sets[:, 2] / sets[:, 0]
        return np.where(np.isfinite(peak(sets)), curve(peak(sets)[:, None], sets)[:, 0], limit)


def first_reaching(share: float, sets: Array, smallest: float, largest: float) -> Array:
    """The first whole counts with ``share`` of each curve's best throughput in the range given.

    X(N) = T is quadratic in N; its smaller root is written so that β = 0 needs no case of its own.
    """
    best_at = np.clip(peak(sets), smallest, largest)
    target = share * curve(best_at[:, None], sets)[:, 0]
    alpha, beta, gamma = sets.T
    square, linear, constant = target * beta, gamma - target * (alpha - beta), target * (1 - alpha)
    root = 2 * constant / (linear + np.sqrt(np.maximum(linear**2 - 4 * square * constant, 0)))
    first = max(1, math.ceil(smallest))
    counts: Array = np.clip(np.ceil(root - 1e-9), first, max(first, math.floor(largest)))
    return counts


def unit_errors(at: Array, best: Array) -> Array:
    """The standard errors of α, β and γ for measurements with a standard deviation of 1."""
    steep = slopes(at, best)[0]
    size = np.linalg.norm(steep, axis=0)  # else a large count's β leaves no digits to γ
    errors: Array = np.sqrt(np.diag(np.linalg.pinv((steep / size).T @ (steep / size)))) / size
    return errors


def loss(at: Array, y: Array, sets: Array) -> float:
    """The sum of squares that one set leaves."""
    return float(np.sum((curve(at, sets)[0] - y) ** 2))


def solve(at: Array, y: Array) -> tuple[Array, Array]:
    """The set of least squares, and the best with β = 0.

    A solver that stays inside its bounds ends beside a bound and never on it, so the faces α = 0
    and β = 0 are solved as well, and win unless the inside is better.
    """
    inside, no_alpha, no_beta = (_solve(at, y, free) for free in ([0, 1, 2], [1, 2], [0, 2]))
    best = min((no_beta, no_alpha), key=lambda found: loss(at, y, found))
    if loss(at, y, inside) < loss(at, y, best) * (1 - 1e-9):
        best = inside
    return best, no_beta


def _solve(at: Array, y: Array, free: list[int]) -> Array:
    """The best of several starts with the coefficients ``free``, the others 0.

    N/X is linear in 1/γ, α/γ and β/γ: linear least squares without negative coefficients, weighted
    to first order by what the division does to the errors, starts next to the solution.
    """
    columns = np.column_stack([at - 1, at * (at - 1), np.ones_like(at)])[:, free]
    weight = y**2 / at
    linear = nnls(columns * weight[:, None], at / y * weight)[0]
    guess = np.append(linear[:-1], 1) / max(linear[-1], 1e-6)
    plain = (np.array([0.01, 1e-4, 1.0])[free], np.array([0.3, 1e-2, 1.0])[free])

    def whole(part: Array) -> Array:
        sets = np.zeros((1, COEFFICIENTS))
        sets[0, free] = part
        return sets

    answers = [
        least_squares(
            lambda part: curve(at, whole(part))[0] - y,
            np.clip(start, 1e-9, np.minimum(UPPER[free] - 1e-9, 1e6)),
            jac=lambda part: slopes(at, whole(part))[0][:, free],
            bounds=(np.zeros(len(free)), UPPER[free]),
            x_scale="jac",
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        for start in (guess, *plain)
    ]
    return whole(min(answers, key=lambda answer: float(answer.cost)).x)


def resampled(
    at: Array, y: Array, best: Array, random: np.random.Generator, resamples: int
) -> Array:
    """The sets of ``resamples`` bootstrap samples, made by resampling the residuals of ``best``.

    The residuals are divided by √(1−leverage) and centred (A. C. Davison and D. V. Hinkley,
    *Bootstrap Methods and their Application*, 1997, 6.2.3 and 7.4), then stretched by the ratio of
    Student's to the normal quantile, without which a handful of measurements has intervals that are
    too short.
    """
    fitted = curve(at, best)[0]
    leverage = np.sum(np.linalg.qr(slopes(at, best)[0]).Q ** 2, axis=1)
    residuals = (y - fitted) / np.sqrt(np.maximum(1 - leverage, 1e-4))
    residuals -= residuals.mean()
    upper = (1 + LEVEL) / 2
    residuals *= stdtrit(len(y) - COEFFICIENTS, upper) / ndtri(upper)
    samples = fitted + random.choice(residuals, size=(resamples, len(y)))
    return resolve(at, samples, best)


def resolve(at: Array, samples: Array, start: Array) -> Array:
    """The set of least squares for each row of ``samples``, all at once from one warm start.

    Levenberg and Marquardt's method, projected on the bounds: a coefficient at a bound is held
    there while the gradient presses it outwards.
    """
    sets = np.repeat(start, len(samples), axis=0)
    errors = curve(at, sets) - samples
    losses = np.sum(errors**2, axis=1)
    damping = np.full(len(samples), 1e-3)
    for _ in range(100):
        jacobian = slopes(at, sets)
        gradient = np.einsum("rnk,rn->rk", jacobian, errors)
        held = ((sets <= LOWER) & (gradient > 0)) | ((sets >= UPPER) & (gradient < 0))
        gradient[held] = 0
        jacobian *= ~held[:, None, :]
        normal = jacobian.swapaxes(1, 2) @ jacobian
        diagonal = np.einsum("rkk->rk", normal)  # a view: written through
        diagonal += damping[:, None] * diagonal + held
        moved = np.clip(sets - np.linalg.solve(normal, gradient[..., None])[..., 0], LOWER, UPPER)
        tried = curve(at, moved) - samples
        tried_losses = np.sum(tried**2, axis=1)
        better = tried_losses < losses
        settled = np.where(better, losses - tried_losses <= 1e-10 * losses, damping > 1e6)
        sets[better], errors[better] = moved[better], tried[better]
        losses = np.where(better, tried_losses, losses)
        damping = np.clip(np.where(better, damping / 10, damping * 10), 1e-12, 1e9)
        if settled.all():
            break
    return sets
