"""Adds up a run's prime counts and checks the sum against the known table of π(x)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from twolane.jobs.pi_table import known_prime_count
from twolane.outcome import Outcome

JOBS = ("count_primes", "find_primes")


class PrimeCheck(msgspec.Struct):
    """The number of primes below ``below``; ``known`` is the table's, None where it has none."""

    method: str
    below: int
    count: int
    known: int | None
    right: bool

    def __str__(self) -> str:
        found = f"{self.method}: {self.count:,} primes below {self.below:,}"
        if self.known is None:
            return f"{found} (not checked: the table of π(x) has no entry for {self.below:,})"
        if self.right:
            return f"{found} — checked: π({self.below:,}) = {self.known:,}"
        return f"{found} — WRONG: π({self.below:,}) = {self.known:,}"


def checks(outcomes: Iterable[Outcome]) -> list[PrimeCheck]:
    """A check for each method whose jobs all succeeded and cover [0, N) without gap or overlap."""
    parts: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    incomplete: set[str] = set()
    for one in outcomes:
        if one.function not in JOBS or not isinstance(one.kwargs, dict):
            continue
        arguments: dict[str, Any] = one.kwargs
        method = str(arguments.get("method", "sieve"))
        low, high = arguments.get("low"), arguments.get("high")
        count = len(one.result) if isinstance(one.result, list) else one.result
        if one.success and isinstance(low, int) and isinstance(high, int) and type(count) is int:
            parts[method].append((low, high, count))
        else:
            incomplete.add(method)
    made = (_check(method, found) for method, found in parts.items() if method not in incomplete)
    return [one for one in made if one is not None]


def _check(method: str, parts: list[tuple[int, int, int]]) -> PrimeCheck | None:
    covered = 0
    for low, high, _ in sorted(parts):
        # 0, 1 and 2 are as good a beginning: no prime is below 2.
        if low != covered and not (covered == 0 and low <= 2):
            return None
        covered = high
    # The jobs count p < N, the table p <= N: the same for the table's numbers, which are composite,
    # but for 2.
    known = 0 if covered == 2 else known_prime_count(covered)
    count = sum(count for _, _, count in parts)
    return PrimeCheck(method, covered, count, known, known == count)
