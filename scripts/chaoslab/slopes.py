"""Whether a figure grows: the slope of a straight line through its samples, with its interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

# Two-sided 95 % of the normal distribution: with fewer than some 20 samples it is too narrow.
Z: Final = 1.96
# A sample resembles the one before it, so that n of them tell less than n independent ones.
MAX_CORRELATION: Final = 0.98


class Slope(NamedTuple):
    """Units an hour: the estimate, and the ends of its 95 % interval."""

    per_hour: float
    low: float
    high: float
    mean: float

    @property
    def grows(self) -> bool:
        """Whether the interval lies above zero, and the growth is no trifle: 5 % of the mean."""
        return self.low > 0 and self.per_hour > 0.05 * abs(self.mean)


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The least-squares line through samples at ``times`` (s); three samples at least.

    The interval is widened for the correlation of neighbouring residuals (Chatfield, *The Analysis
    of Time Series*, the effective number of independent samples of an AR(1) series).
    """
    count = len(times)
    if count < 3:
        raise ValueError(f"{count} samples; a slope takes 3")
    mid, mean = sum(times) / count, sum(values) / count
    spread = sum((at - mid) ** 2 for at in times)
    estimate = sum(
        (at - mid) * (value - mean) for at, value in zip(times, values, strict=True)
    ) / spread  # fmt: skip
    residuals = [
        value - mean - estimate * (at - mid) for at, value in zip(times, values, strict=True)
    ]
    squares = sum(one * one for one in residuals)
    correlation = 0.0
    if squares > 0:
        products = sum(a * b for a, b in itertools.pairwise(residuals))
        correlation = min(MAX_CORRELATION, max(0.0, products / squares))
    inflation = math.sqrt((1 + correlation) / (1 - correlation))
    error = math.sqrt(squares / max(1, count - 2) / spread) * inflation
    hour = 3600.0
    return Slope(
        estimate * hour, (estimate - Z * error) * hour, (estimate + Z * error) * hour, mean
    )
