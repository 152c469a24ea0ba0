"""What a soak feeds its fleet with, and what it makes of the samples that it takes."""

from __future__ import annotations

import itertools
import random
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
MINUTE: Final = 60.0
# The lab's runs are named after the fault and numbered, and a job's id is its run's and a number.
RUN_NAME: Final = re.compile(rb"soak-\d+")


def nobodys(found: Iterable[bytes], followed: Iterable[str]) -> list[bytes]:
    """The keys, or members of keys, that belong neither to these runs nor to their jobs.

    The queues, the counters and the workers' own are among them, and whatever was left behind.
    """
    known = {one.encode() for one in followed}
    return [one for one in found if known.isdisjoint(RUN_NAME.findall(one))]


def shuffled(kinds: Sequence[T], choose: random.Random) -> Iterator[T]:
    """All of them in one order, all of them in another, and so on."""
    while True:
        yield from choose.sample(kinds, len(kinds))


def by_minute(samples: Iterable[tuple[float, float]]) -> list[float]:
    """The mean of each minute that has samples (s, value), which are in order."""
    minutes = itertools.groupby(samples, lambda one: one[0] // MINUTE)
    return [round(statistics.fmean(value for _, value in some), 2) for _, some in minutes]
