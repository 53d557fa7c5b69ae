"""Which callers a part of them is."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper import shares

KEYS = [f"customer-{number}" for number in range(10_000)]
PERCENTS = st.floats(0, 100)


@pytest.mark.parametrize("model", ["boston", "churn-acme", "iris"])
def test_ten_percent_are_a_tenth_of_ten_thousand_keys(model: str) -> None:
    among = sum(shares.is_among(model, key, 10) for key in KEYS)
    assert 900 <= among <= 1100


@given(st.text(), st.text(), PERCENTS, PERCENTS)
def test_a_larger_part_has_all_in_it_who_were_in_the_smaller(
    model: str, key: str, one: float, other: float
) -> None:
    smaller, larger = sorted((one, other))
    if shares.is_among(model, key, smaller):
        assert shares.is_among(model, key, larger)


@given(st.text(), st.text())
def test_nobody_is_of_nothing_and_everybody_is_of_all(model: str, key: str) -> None:
    assert not shares.is_among(model, key, 0)
    assert shares.is_among(model, key, 100)


@given(st.integers(0, shares.PLACES))
def test_a_part_is_exact_to_the_hundredth_of_a_percent(hundredths: int) -> None:
    """0.07 % are seven places, though a float times a hundred is a little more than 7."""
    percent = hundredths / 100
    assert round(percent * shares.PLACES / 100) == hundredths


def test_two_processes_say_the_same_of_a_thousand_keys() -> None:
    text = (
        "from skipper import shares; "
        "print(*(shares.place('boston', f'customer-{n}') for n in range(1000)))"
    )
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(shares.place("boston", key)) for key in KEYS[:1000]]


def test_the_place_of_a_key_is_that_of_its_hash() -> None:
    digest = hashlib.sha256(b"boston\0customer-17").hexdigest()
    assert shares.place("boston", "customer-17") == int(digest, 16) % 10_000
