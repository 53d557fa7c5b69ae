import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import pytest

from skipper.function.run import Run
from skipper.function.tallies import (
    BUCKETS,
    MOST_NAMES,
    MOST_SERIES,
    Room,
    Series,
    Tallies,
    counted,
    observed,
)


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Kind(Enum):
    IN = 1


def test_labels_are_one_series_in_any_order() -> None:
    one, other = counted("n", 1, {"a": 1, "b": "x"}), counted("n", 2, {"b": "x", "a": "1"})
    assert one.series == other.series == Series("n", (("a", "1"), ("b", "x")))


def test_a_counter_is_named_total_once() -> None:
    assert counted("words_total", 1, {}).series == counted("words", 1, {}).series


@pytest.mark.parametrize("amount", [3, 3.0, True + 2, np.float32(3), np.array([3])])
def test_an_amount_is_any_one_number(amount: Any) -> None:
    assert counted("n", amount, {}).value == 3


@pytest.mark.parametrize(
    "amount", [-1, math.nan, math.inf, 1e200, 10**400, "many", None, np.zeros(2), Nasty()]
)
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        counted("n", amount, {})


@pytest.mark.parametrize(
    "name", ["", "two words", "9lives", "a-b", "ä", "n\n", "n" * 101, None, 7, Nasty()]
)
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="a name is"):
        counted(name, 1, {})


@pytest.mark.parametrize("name", ["a_total", "a_bucket", "a_sum", "a_count"])
def test_a_histogram_is_not_named_as_a_part_of_another(name: str) -> None:
    with pytest.raises(ValueError, match="does not end in"):
        observed(name, 1, {})


@pytest.mark.parametrize(
    "labels",
    [
        {"function": "other"},
        {"le": "1"},
        {"__name__": "x"},
        {"two words": "x"},
        {"a": "x" * 101},
        {"a": "\ud800"},
        {"a": Nasty()},
        {f"l{number}": "x" for number in range(9)},
    ],
)
def test_what_is_no_label_is_refused(labels: Mapping[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        counted("n", 1, labels)


def test_any_value_is_a_label_by_its_text() -> None:
    assert counted("n", 1, {"a": Kind.IN, "b": None, "c": 1.5}).series.labels == (
        ("a", "Kind.IN"),
        ("b", "None"),
        ("c", "1.5"),
    )


def test_two_tallies_add_up() -> None:
    one, other = Tallies(), Tallies()
    for tallies, value in ((one, 0.5), (other, 2_000_000)):
        tallies.count(counted("n", 2, {}))
        tallies.observe(observed("h", value, {}))
    one.add(other)
    assert one.counts == {Series("n", ()): 4}
    (histogram,) = one.histograms.values()
    assert (histogram.count, histogram.total, histogram.counts[-1]) == (2, 2_000_000.5, 1)
    assert len(histogram.counts) == len(BUCKETS) + 1


def test_the_series_that_come_first_are_taken_and_stay_so() -> None:
    room = Room()
    for number in range(MOST_SERIES):
        room.admit(counted("n", 1, {"user": number}).series, is_count=True)
    with pytest.raises(ValueError, match="200 series"):
        room.admit(counted("n", 1, {"user": "new"}).series, is_count=True)
    room.admit(counted("n", 1, {"user": 7}).series, is_count=True)


def test_the_names_that_come_first_are_taken() -> None:
    room = Room()
    for number in range(MOST_NAMES):
        room.admit(counted(f"n{number}", 1, {}).series, is_count=True)
    with pytest.raises(ValueError, match="50 names"):
        room.admit(observed("n0", 1, {}).series, is_count=False)


def test_a_run_in_place_counts_nothing_and_raises_nothing() -> None:
    run = Run()
    run.count("no name", -1)
    run.observe("h", math.nan)
