"""The prime jobs against the definition of a prime, and against published counts."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twolane.jobs import primes
from twolane.jobs.pi_table import known_prime_count
from twolane.jobs.primes import MAX_HIGH, MAX_LISTED_WIDTH, count_primes, find_primes

intervals = st.tuples(st.integers(0, 3000), st.integers(0, 300)).map(lambda a: (a[0], a[0] + a[1]))


def by_definition(low: int, high: int) -> list[int]:
    return [n for n in range(low, high) if n > 1 and all(n % d for d in range(2, n))]


@given(intervals, st.integers(1, 40))
def test_every_way_finds_the_primes_of_the_definition(
    interval: tuple[int, int], segment: int
) -> None:
    low, high = interval
    expected = by_definition(low, high)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(primes, "SEGMENT_ODDS", segment)

        assert find_primes(low, high) == expected
        assert count_primes(low, high) == len(expected)
    assert count_primes(low, high, "trial") == len(expected)


@pytest.mark.parametrize("low", range(6))
@pytest.mark.parametrize("width", range(6))
def test_the_smallest_intervals_are_exact(low: int, width: int) -> None:
    expected = by_definition(low, low + width)

    assert find_primes(low, low + width) == expected
    assert count_primes(low, low + width, "trial") == len(expected)


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=6).map(sorted))
def test_intervals_that_meet_add_up(bounds: list[int]) -> None:
    parts = sum(count_primes(low, high) for low, high in pairwise(bounds))

    assert parts == count_primes(bounds[0], bounds[-1])


@pytest.mark.parametrize("method", ["sieve", "trial"])
def test_there_are_78498_primes_below_a_million(method: str) -> None:
    chunks = [count_primes(low, low + 100_000, method) for low in range(0, 1_000_000, 100_000)]

    assert sum(chunks) == known_prime_count(10**6) == 78_498


@pytest.mark.parametrize("x", [*(10**n for n in range(8)), *(2**n for n in range(2, 24))])
def test_the_sieve_agrees_with_the_published_counts(x: int) -> None:
    assert count_primes(0, x) == known_prime_count(x)


def test_pi_of_two_counts_two_itself() -> None:
    assert known_prime_count(2) == 1
    assert count_primes(0, 2) == 0
    assert known_prime_count(3) is None


@pytest.mark.parametrize("low", [10**12 - 50, MAX_HIGH - 100])
def test_large_numbers_are_sieved_with_all_their_base_primes(low: int) -> None:
    assert count_primes(low, low + 100) == count_primes(low, low + 100, "trial")


def test_the_square_of_a_prime_at_a_segments_end_is_no_prime() -> None:
    square = 1009 * 1009

    assert find_primes(square, square + 1) == []
    assert square not in find_primes(square - 100, square + 1)


@pytest.mark.parametrize("job", [count_primes, find_primes])
@pytest.mark.parametrize(("low", "high"), [(5, 4), (-1, 4), (0, MAX_HIGH + 1)])
def test_an_impossible_interval_is_refused(job: object, low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"low={low} to high={high}"):
        job(low, high)


def test_a_list_too_long_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"lists at most 1000000; split the interval"):
        find_primes(0, MAX_LISTED_WIDTH + 1)


@pytest.mark.parametrize("value", [-1, MAX_HIGH + 1, "7", 1.5])
def test_the_annotation_refuses_what_is_no_bound(value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, primes.Low)
