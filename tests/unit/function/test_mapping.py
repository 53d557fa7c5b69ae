"""A map calls once per item, in order, with no more under way than it may, and names what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from skipper.errors import FunctionError
from skipper.function.mapping import Arguments, in_order, of_items, of_tuples


@pytest.mark.parametrize(
    ("names", "iterables", "calls"),
    [
        (["x"], [[1, 2]], [Arguments((1,)), Arguments((2,))]),
        (["x"], [[]], []),
        (["x"], [[{"x": 1}]], [Arguments(({"x": 1},))]),
        (["x", "y"], [[{"x": 1, "y": 2}, {"x": 3}]], [((), {"x": 1, "y": 2}), ((), {"x": 3})]),
        (["x", "y"], [[{"z": 1}]], [Arguments(({"z": 1},))]),
        (["x", "y"], [[1, 2], "ab"], [Arguments((1, "a")), Arguments((2, "b"))]),
    ],
)
def test_arguments_are_items_or_dicts_of_them(names: Any, iterables: Any, calls: Any) -> None:
    assert list(of_items(names, iterables)) == calls
    assert list(of_tuples([(1, 2), [3]])) == [Arguments((1, 2)), Arguments((3,))]


def test_iterables_that_end_apart_and_none_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(of_items(["x", "y"], [[1, 2], [1]]))
    with pytest.raises(TypeError, match="at least one iterable"):
        of_items(["x"], [])


class Work:
    """Begins calls and counts them; what is negative fails, at once or when it is waited for."""

    def __init__(self) -> None:
        self.taken = self.ended = self.most = 0

    def items(self, *values: int) -> Iterator[Arguments]:
        for value in values:
            self.taken += 1
            yield Arguments((value,))

    def start(self, call: Arguments) -> Callable[[], int]:
        (value,) = call.args
        if value < -100:
            raise TypeError("no such argument")
        self.most = max(self.most, self.taken - self.ended)

        def wait() -> int:
            self.ended += 1
            if value < 0:
                raise FunctionError("it raised")
            return 2 * int(value)

        return wait


def test_values_are_in_order_and_only_so_many_are_under_way() -> None:
    work = Work()
    values = in_order(work.items(*range(50)), work.start, keeps_errors=False, window=4)
    assert next(values) == 0
    assert work.taken == 5
    assert list(values) == [2 * n for n in range(1, 50)]
    assert work.most <= 5


def test_the_first_error_names_its_item_and_ends_it() -> None:
    work = Work()
    with pytest.raises(FunctionError, match=r"^item 3: it raised$") as caught:
        list(
            in_order(work.items(0, 1, 2, -1, *range(90)), work.start, keeps_errors=False, window=2)
        )
    assert caught.value.item == 3
    assert work.taken <= 6
    with pytest.raises(TypeError, match="item 1: no such argument"):
        list(in_order(work.items(0, -101), work.start, keeps_errors=False))


def test_errors_stand_among_the_values_where_they_are_wanted() -> None:
    work = Work()
    values = list(in_order(work.items(1, -1, -101, 2), work.start, keeps_errors=True))
    assert [values[0], values[3]] == [2, 4]
    assert [str(error) for error in values[1:3]] == [
        "item 1: it raised",
        "item 2: no such argument",
    ]


def test_an_error_of_a_map_within_a_map_names_the_inner_item_alone() -> None:
    def inner(call: Arguments) -> Callable[[], list[Any]]:
        work = Work()
        return lambda: list(in_order(work.items(0, -1), work.start, keeps_errors=False))

    with pytest.raises(FunctionError, match=r"^item 1: it raised$"):
        list(in_order(iter([Arguments((0,))]), inner, keeps_errors=False))
