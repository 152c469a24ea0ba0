"""Durations and sizes as people type them."""

from __future__ import annotations

import math

import click
import pytest

from twolane.quantities import DURATION, SIZE, Duration

HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50ms", 0.05),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1h", HOUR),
        ("250us", 0.00025),
        ("3", 3.0),
        (".5", 0.5),
        (" 7 s", 7.0),
        (0.25, 0.25),
    ],
)
def test_durations_are_seconds(text: str | float, seconds: float) -> None:
    value = DURATION.convert(text, None, None)

    assert math.isclose(value, seconds)
    assert isinstance(value, float)


@pytest.mark.parametrize("text", ["", "ms", "-1s", "1 day", "1e3", "nan", "inf", "1,5s", "1s2"])
def test_what_is_no_duration_names_the_forms(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"not a duration; write 50ms"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("1kB", 1000),
        ("1k", 1000),
        ("1KiB", 1024),
        ("1.5MB", 1_500_000),
        ("10mib", 10 * 1024**2),
        ("1 GB", 10**9),
        (7, 7),
    ],
)
def test_sizes_are_bytes(text: str | int, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "kB", "-1", "1 page", "1e3", "1kbit"])
def test_what_is_no_size_names_the_forms(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"not a size; write 512"):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize("value", ["99ms", "0", 0.05])
def test_a_duration_below_the_least_names_the_least(value: str | float) -> None:
    with pytest.raises(click.BadParameter, match=r"less than 0\.1s, the least"):
        Duration(least=0.1).convert(value, None, None)


def test_the_least_itself_is_allowed() -> None:
    assert Duration(least=0.5).convert("500ms", None, None) == 0.5


def test_what_no_clock_can_count_is_refused() -> None:
    digits = "9" * 400

    with pytest.raises(click.BadParameter, match="more than 87600h"):
        DURATION.convert(f"{digits}h", None, None)
    with pytest.raises(click.BadParameter, match="more than 1024GiB"):
        SIZE.convert(digits, None, None)
