"""The jobs that compute: primes, counted or listed, in pure Python.

An interval is half open, ``low <= p < high``, so intervals that meet count no prime twice, and the
work of one large interval can be split over as many jobs as there are cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from math import isqrt
from typing import Annotated, Final, Literal

import msgspec

from twolane.registry import job

# A segment is sieved with every prime up to sqrt(high). At 10**13 those are 227,000, found anew by
# each job in about 70 ms; at 10**14 time and memory for them would triple and outweigh most jobs.
MAX_HIGH: Final = 10**13
# Odd numbers (one byte each) in a segment, measured over 2**14 … 2**23 with every core busy. Near 0
# and near 10**9 the times are flat from 2**20 to 2**22; beyond, the segment falls out of the cache;
# below, and for large numbers, each segment walks through all base primes for few strikes.
SEGMENT_ODDS: Final = 2**21
# A million consecutive numbers hold at most 78,498 primes, 0.7 MB as MessagePack.
MAX_LISTED_WIDTH: Final = 1_000_000

Bound = Annotated[int, msgspec.Meta(ge=0, le=MAX_HIGH)]
Low = Annotated[Bound, msgspec.Meta(description="the interval's first number")]
High = Annotated[Bound, msgspec.Meta(description="the number after the interval's last")]


@job
def count_primes(low: Low, high: High, method: Literal["sieve", "trial"] = "sieve") -> int:
    """Count the primes p with ``low <= p < high``.

    ``"sieve"`` is Eratosthenes over segments of odd numbers, O(n log log n); ``"trial"`` divides
    each odd number by each odd number up to its square root, O(n sqrt(high)): it is deliberately
    the textbook's way, to have a job with much to compute and little to say.

    Raises:
        ValueError: the interval is empty the wrong way round, or leaves 0 … 10**13.
    """
    _check(low, high)
    two = 1 if low <= 2 < high else 0
    if method == "trial":
        return two + sum(map(_is_odd_prime, range(max(low, 3) | 1, high, 2)))
    return two + sum(flags.count(1) for _, flags in _sieved(low, high))


@job
def find_primes(low: Low, high: High) -> list[int]:
    """List the primes p with ``low <= p < high``, in ascending order, by the sieve.

    Raises:
        ValueError: as for :func:`count_primes`, or the interval is wider than 1,000,000.
    """
    _check(low, high)
    if high - low > MAX_LISTED_WIDTH:
        raise ValueError(
            f"find_primes from {low} to {high} spans {high - low} numbers, and lists at most "
            f"{MAX_LISTED_WIDTH}; split the interval, or count with count_primes"
        )
    found = [2] if low <= 2 < high else []
    for first, flags in _sieved(low, high):
        found += compress(range(first, first + 2 * len(flags), 2), flags)
    return found


def _check(low: int, high: int) -> None:
    if not 0 <= low <= high <= MAX_HIGH:
        raise ValueError(
            f"no interval from low={low} to high={high}; give 0 <= low <= high <= 10**13"
        )


def _is_odd_prime(odd: int) -> bool:
    """Whether an odd number from 3 on has no divisor up to its square root."""
    divisor = 3
    while divisor * divisor <= odd:
        if odd % divisor == 0:
            return False
        divisor += 2
    return True


def _sieved(low: int, high: int) -> Iterator[tuple[int, bytearray]]:
    """Segments of ``[max(low, 3), high)``: the first odd number, and for each odd one 1 if prime.

    The algorithm is Bays and Hudson's segmented sieve of Eratosthenes (BIT 17, 1977): memory is a
    segment plus the primes up to sqrt(high), and each prime starts at its own square, as smaller
    multiples have a smaller factor.
    """
    start = max(low, 3) | 1
    if start >= high:
        return
    base = _odd_primes_to(isqrt(high - 1))
    for first in range(start, high, 2 * SEGMENT_ODDS):
        size = min(SEGMENT_ODDS, (high - first + 1) // 2)
        last = first + 2 * (size - 1)
        flags = bytearray(b"\x01") * size
        for prime in base:
            square = prime * prime
            if square > last:
                break
            # Odd steps of 2 from `first` to the square, or else to the first odd multiple at all.
            at = (square - first) // 2 if square >= first else (prime - first) // 2 % prime
            if at < size:
                flags[at::prime] = bytes((size - 1 - at) // prime + 1)
        yield first, flags


def _odd_primes_to(limit: int) -> list[int]:
    """The odd primes up to ``limit``, itself included, by a sieve in one piece."""
    flags = bytearray(b"\x01") * max(0, (limit - 1) // 2)  # of 3, 5, 7, …
    for prime in range(3, isqrt(limit) + 1, 2):
        if flags[(prime - 3) // 2]:
            at = (prime * prime - 3) // 2
            flags[at::prime] = bytes((len(flags) - 1 - at) // prime + 1)
    return list(compress(range(3, limit + 1, 2), flags))
