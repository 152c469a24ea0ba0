"""A histogram of durations that merges: a fleet's is the sum of its workers'.

Buckets grow by a constant factor, so a quantile is within 2 % of the true value whatever its size,
and a histogram is a small mapping however much it has seen. Source: Masson, Rim, Lee, "DDSketch: A
Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", VLDB 2019, section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

ACCURACY: Final = 0.02
GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG: Final = 1 / math.log(GAMMA)
# Shorter durations count as this long: the clocks that we read have no finer step.
SHORTEST_SECONDS: Final = 1e-6

Buckets = Mapping[int, int]


class Histogram:
    """Counts durations, in seconds. ``buckets`` maps a bucket's number to its count."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Buckets | None = None) -> None:
        self.buckets: dict[int, int] = dict(buckets or {})

    def add(self, seconds: float) -> None:
        if not seconds > SHORTEST_SECONDS:
            seconds = SHORTEST_SECONDS
        bucket = math.ceil(math.log(seconds) * _PER_LOG)
        try:
            self.buckets[bucket] += 1
        except KeyError:
            self.buckets[bucket] = 1

    def __len__(self) -> int:
        """How many durations it has counted."""
        return sum(self.buckets.values())

    def quantile(self, q: float) -> float | None:
        """The duration below which a share ``q`` (0 to 1) lies; None for an empty histogram."""
        total = len(self)
        if not total:
            return None
        rank, seen = q * (total - 1), 0
        bucket = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen > rank:
                break
        # The middle of the bucket, by which the error is the same at both of its ends.
        return float(2 * GAMMA**bucket / (GAMMA + 1))


def merge(parts: Iterable[Buckets]) -> Histogram:
    """The histogram of all that the parts have counted."""
    whole = Histogram()
    for part in parts:
        for bucket, count in part.items():
            whole.buckets[bucket] = whole.buckets.get(bucket, 0) + count
    return whole


def since(now: Buckets, before: Buckets) -> Histogram:
    """What was counted between two states of one growing histogram.

    A count that shrank is a histogram that began anew: then all of ``now`` is new.
    """
    if any(now.get(bucket, 0) < count for bucket, count in before.items()):
        return Histogram(now)
    grown = {bucket: count - before.get(bucket, 0) for bucket, count in now.items()}
    return Histogram({bucket: count for bucket, count in grown.items() if count})
