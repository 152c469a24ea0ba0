from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from twolane import histogram
from twolane.histogram import ACCURACY, Histogram

durations = st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=200)


def filled(values: list[float]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@given(durations, st.floats(0, 1))
def test_a_quantile_is_within_two_percent_of_an_exact_one(values: list[float], q: float) -> None:
    made = filled(values)

    found = made.quantile(q)

    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert found is not None
    assert abs(found - exact) <= exact * (ACCURACY + 1e-9)


@given(durations, durations)
def test_the_merge_of_two_is_the_histogram_of_both(one: list[float], other: list[float]) -> None:
    merged = histogram.merge([filled(one).buckets, filled(other).buckets])

    assert merged.buckets == filled(one + other).buckets
    assert len(merged) == len(one) + len(other)


@given(durations, durations)
def test_the_difference_of_two_states_is_what_came_between(
    first: list[float], later: list[float]
) -> None:
    before = filled(first)
    now = histogram.merge([before.buckets, filled(later).buckets])

    assert histogram.since(now.buckets, before.buckets).buckets == filled(later).buckets


def test_a_worker_that_began_anew_is_counted_from_nothing() -> None:
    before, now = filled([1.0, 1.0, 2.0]), filled([1.0])

    assert histogram.since(now.buckets, before.buckets).buckets == now.buckets


def test_an_empty_histogram_has_no_quantiles() -> None:
    assert Histogram().quantile(0.5) is None


def test_no_time_at_all_is_counted_as_the_shortest() -> None:
    found = filled([0.0]).quantile(1)

    assert found is not None
    assert found <= 1.1e-6
