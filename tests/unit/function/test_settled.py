"""What JSON would write as something else is refused with its place, or null where it is missing.

posit-dev/chatlas#180
"""

import collections
import dataclasses
import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from skipper.function.settled import settled
from skipper.function.signature import signature_of


def f() -> Any: ...


def dumped(value: Any) -> Any:
    return json.loads(signature_of(f).dump(value))


class Colour(enum.Enum):
    RED = "red"


class House(BaseModel):
    price: Any = None
    others: list[Any] = []


@dataclasses.dataclass
class Place:
    at: Any


MISSING = [
    pd.NaT,
    pd.NA,
    np.datetime64("NaT"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    np.float32("nan"),
    float("inf"),
]
INTS = {"a": 1}


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_what_is_missing_is_null_wherever_it_stands(missing: Any) -> None:
    assert dumped(missing) is None
    assert dumped({"a": [missing, 1], "b": (missing,)}) == {"a": [None, 1], "b": [None]}
    assert dumped([collections.OrderedDict(a=missing)]) == [{"a": None}]


COMPLEX = [1 + 2j, np.complex128(1), np.array([1j]), pd.Series([1j]), pd.DataFrame({"a": [1j]})]


@pytest.mark.parametrize("value", COMPLEX, ids=lambda value: type(value).__name__)
def test_complex_numbers_are_refused(value: Any) -> None:
    for inside in (value, [value], {"a": value}):
        with pytest.raises(TypeError, match="complex numbers are not JSON"):
            dumped(inside)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, {"b": 1j}]}, "/a/1/b"),
        ([House(price=1j)], "/0/price"),
        ({"at": Place((1, 1j))}, "/at/at/1"),
        ({"rows": {1: {(1, 2): 3}}}, "/rows/1"),
        ({"when": Place(pd.NaT)}, "/when/at"),
        ([House(others=[Decimal("NaN")])], "/0/others"),
    ],
)
def test_what_is_refused_is_named_with_its_place(value: Any, place: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"\(at {place}\)"):
        dumped(value)


KEYS = {
    1: "1",
    1.5: "1.5",
    np.int64(2): "2",
    Decimal("2.5"): "2.5",
    dt.date(2026, 1, 2): "2026-01-02",
    Colour.RED: "red",
    uuid.UUID(int=1): str(uuid.UUID(int=1)),
}


@pytest.mark.parametrize(("key", "text"), KEYS.items(), ids=map(str, KEYS))
def test_keys_that_have_a_text_of_their_own_are_kept(key: Any, text: str) -> None:
    assert dumped({key: 1}) == {text: 1}


@pytest.mark.parametrize("key", [None, (1, 2), 1j, float("nan"), pd.NaT, b"\xff", frozenset()])
def test_other_keys_are_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="is no key of JSON"):
        dumped({"a": {key: 1}})


@pytest.mark.parametrize("pair", [("1", 1), (True, "true"), (Colour.RED, "red"), (1, np.str_("1"))])
def test_two_keys_of_one_text_are_refused(pair: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="are one in JSON"):
        dumped(dict.fromkeys(pair, 0))


@pytest.mark.parametrize("value", [1, "a", None, INTS, [INTS, [1.5]], House(), {"a": House()}, f])
def test_what_needs_nothing_is_not_copied(value: Any) -> None:
    assert settled(value) is value


def test_a_circle_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises((TypeError, ValueError)):
        dumped(circle)


def test_a_range_is_its_numbers() -> None:
    assert dumped({"a": range(2), "b": [range(0)]}) == {"a": [0, 1], "b": [[]]}
