"""Ratios of measurements with their intervals, and whether they are more than noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

LEVEL: Final = 0.95
RESAMPLES: Final = 2_000

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]  # of the last axis


class Ratio(msgspec.Struct):
    """A ratio and its 95 % interval; ``low`` and ``high`` are None where nothing was repeated."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def is_noise(self) -> bool:
        """Whether it cannot be told from 1."""
        return self.low is None or self.high is None or self.low <= 1 <= self.high


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The geometric mean of ``ours`` over ``theirs``, round by round, so that what slows a whole
    round cancels. The interval is Student's, of the mean of the logarithms.

    Raises:
        ValueError: the lengths differ, there is none, or a value is not above 0.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    if min(*ours, *theirs) <= 0:
        raise ValueError("a ratio is of values above 0")
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    mean = sum(logs) / len(logs)
    if len(logs) == 1:
        return Ratio(math.exp(mean))
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # has no stubs

    spread = math.sqrt(sum((one - mean) ** 2 for one in logs) / (len(logs) - 1) / len(logs))
    reach = float(stdtrit(len(logs) - 1, (1 + LEVEL) / 2)) * spread
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def resampled(ours: Sequence[float], theirs: Sequence[float], of: Statistic, seed: int = 0) -> Any:
    """``of`` our sample over ``of`` theirs, with the percentile interval of a bootstrap that draws
    from each sample by itself (B. Efron and R. J. Tibshirani, *An Introduction to the Bootstrap*,
    1993, ch. 13). None where theirs is 0, of which there is no ratio.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if not (len(a) and len(b)) or not float(of(b)) > 0:
        return None
    value = float(of(a)) / float(of(b))
    if min(len(a), len(b)) < 2:
        return Ratio(value)
    draw = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = _drawn(draw, a, of) / _drawn(draw, b, of)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < RESAMPLES / 2:
        return Ratio(value)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(value, float(low), float(high))


def _drawn(draw: np.random.Generator, sample: Array, of: Statistic) -> Array:
    """``of`` each of many resamples, made in slices that fit in memory."""
    made = []
    step = max(1, min(RESAMPLES, 4_000_000 // len(sample)))
    for begin in range(0, RESAMPLES, step):
        size = (min(step, RESAMPLES - begin), len(sample))
        made.append(of(sample[draw.integers(0, len(sample), size)]))
    return np.concatenate(made)
