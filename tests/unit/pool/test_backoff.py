"""Pauses between two attempts of a call or a task."""

import pytest

from skipper.pool.backoff import pause_s


@pytest.mark.parametrize(
    ("first_s", "spent", "longest"),
    [(1.0, 1, 1.0), (1.0, 3, 4.0), (10.0, 1, 10.0), (10.0, 2000, 300.0), (300.0, 2, 300.0)],
)
def test_pauses_double_up_to_five_minutes_less_up_to_a_half(
    first_s: float, spent: int, longest: float
) -> None:
    drawn = [pause_s(first_s, spent) for _ in range(100)]
    assert all(longest / 2 <= each <= longest for each in drawn)
    assert len(set(drawn)) > 1
