"""Ratios and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from producer import ratios
from producer.ratios import Ratio, paired, resampled


def mean(sample: ratios.Array) -> ratios.Array:
    found: ratios.Array = np.mean(sample, axis=-1)
    return found


def test_pairs_that_all_agree_have_a_narrow_interval() -> None:
    found = paired([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])

    assert found == Ratio(pytest.approx(2), pytest.approx(2), pytest.approx(2))
    assert not found.is_noise


def test_the_interval_of_pairs_is_students_of_the_logarithms() -> None:
    # By hand: logs 0.1, 0.2, 0.3; standard error 0.1/√3; t at 2 degrees and 97.5 % is 4.3027.
    found = paired(np.exp([0.1, 0.2, 0.3]).tolist(), [1.0, 1.0, 1.0])

    assert np.log(found.value) == pytest.approx(0.2)
    assert found.low is not None
    assert found.high is not None
    assert np.log(found.high) - 0.2 == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)
    assert np.log(found.low) - 0.2 == pytest.approx(-4.302653 * 0.1 / 3**0.5, rel=1e-6)


def test_what_slows_a_whole_round_cancels() -> None:
    found = paired([3.0, 30.0, 300.0], [1.0, 10.0, 100.0])

    assert found.high == pytest.approx(3)


def test_one_round_has_no_interval_and_counts_as_noise() -> None:
    found = paired([2.0], [1.0])

    assert found == Ratio(2.0)
    assert found.is_noise


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_what_cannot_be_paired(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match=r"ratio|paired"):
        paired(ours, theirs)


def test_intervals_of_pairs_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    holds = 0
    for _ in range(400):
        found = paired(np.exp(draw.normal(0.5, 0.2, 5)).tolist(), [1.0] * 5)
        assert found.low is not None
        assert found.high is not None
        holds += found.low <= np.exp(0.5) <= found.high

    assert 0.92 <= holds / 400 <= 0.98


def test_a_resampled_ratio_of_means() -> None:
    draw = np.random.default_rng(2)
    found = resampled(draw.normal(20, 2, 200).tolist(), draw.normal(10, 1, 200).tolist(), mean)

    assert found.value == pytest.approx(2, rel=0.03)
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.12


def test_a_resampled_ratio_is_the_same_each_time() -> None:
    ours, theirs = [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]

    assert resampled(ours, theirs, mean) == resampled(ours, theirs, mean)


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [0.0]), ([], [1.0]), ([1.0], [])])
def test_there_is_no_ratio_to_nothing(ours: list[float], theirs: list[float]) -> None:
    assert resampled(ours, theirs, mean) is None


def test_a_ratio_of_single_values_has_no_interval() -> None:
    assert resampled([3.0], [2.0], mean) == Ratio(1.5)


def test_a_large_sample_is_resampled_within_memory() -> None:
    found = resampled([1.0, 2.0] * 100_000, [1.0, 2.0] * 100_000, mean)

    assert found.low < 1 < found.high
