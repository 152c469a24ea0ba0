"""How long a failed job waits for its next try."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from twolane.registry import Backoff

stable = settings(derandomize=True, deadline=None, database=None)


numbers = st.floats(0, 1e6, allow_subnormal=False)
backoffs = st.builds(Backoff, base=numbers, factor=st.floats(1, 1e4), ceiling=numbers)
draws = st.floats(0, 1, exclude_max=True)
tries = st.integers(1, 10_000)


@stable
@given(backoffs, tries, draws)
def test_a_wait_is_in_the_upper_half_of_its_step(
    backoff: Backoff, failed: int, draw: float
) -> None:
    step = backoff.seconds(failed, 0.0) * 2

    wait = backoff.seconds(failed, draw)

    assert step / 2 <= wait <= step <= backoff.ceiling


@stable
@given(backoffs, tries, draws)
def test_a_later_try_waits_no_less(backoff: Backoff, failed: int, draw: float) -> None:
    assert backoff.seconds(failed, draw) <= backoff.seconds(failed + 1, draw)


@stable
@given(backoffs, tries, draws, draws)
def test_the_wait_grows_with_the_draw(backoff: Backoff, failed: int, a: float, b: float) -> None:
    low, high = sorted((a, b))

    assert backoff.seconds(failed, low) <= backoff.seconds(failed, high)


def test_the_default_steps_double_up_to_five_minutes() -> None:
    steps = [Backoff().seconds(failed, 0.0) * 2 for failed in range(1, 12)]

    assert steps == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_backoff_of_nothing_never_waits() -> None:
    assert [Backoff(base=0).seconds(failed, 0.5) for failed in (1, 2, 100, 10_000)] == [0] * 4


def test_a_steep_backoff_stops_at_its_ceiling_instead_of_overflowing() -> None:
    assert Backoff(base=1e300, factor=1e10).seconds(100, 0.0) == 150.0
