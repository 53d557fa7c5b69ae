"""Values that are not what their hints say: https://github.com/pydantic/pydantic/issues/9378"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import pytest
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator

from skipper.errors import DefinitionError
from skipper.function.options import check
from skipper.function.output_check import ALWAYS, OutputCheck, is_declared
from skipper.function.signature import signature_of


class Room(BaseModel):
    area: float


class Kitchen(Room):
    oven: str = "gas"


class House(BaseModel):
    rooms: list[Room] = []
    price: int = 1


@dataclass
class Point:
    x: float


@dataclass
class Pixel(Point):
    colour: str = "red"


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    price: float = Field(serialization_alias="housePrice")

    @computed_field
    def double(self) -> float:
        return 2 * self.price


class Fussy(BaseModel):
    x: int = 1

    @field_validator("x")
    @classmethod
    def check_x(cls, value: int) -> int:
        raise KeyError("it was written for what comes in")


def told(hint: Any, value: Any, *, is_strict: bool = False) -> str:
    def f() -> Any: ...

    f.__annotations__ = {"return": hint}
    signature = signature_of(f)
    assert is_declared(signature.returned)
    return OutputCheck(signature.output, is_strict=is_strict).look(value, signature.dump(value))


_DEAR: Any = {"price": "dear"}
MISFITS = [
    (int, "many", "the returned value is not", "valid integer"),
    (str, 5, "the returned value is not", "valid string"),
    (House, {"rooms": "none"}, "at /rooms is not", "valid array"),
    (list[int], [1, 2, "x"], "at /2 is not", "valid integer"),
    (dict[str, float], {"a": None}, "at /a is not", "valid number"),
    (Annotated[int, Ge(0)], -1, "the returned value is not", "greater than or equal to 0"),
    (House, House.model_construct(None, **_DEAR), "at /price is not", "valid integer"),
    (Room, Kitchen(area=1), "at /oven is not", "Kitchen has: it is left out"),
    (House, House(rooms=[Room(area=1), Kitchen(area=2)]), "at /rooms/1/oven is not", "left out"),
    (list[Point], [Pixel(1)], "at /0/colour is not", "left out"),
]
FITS = [
    (float, math.nan),
    (float, np.float32(1)),
    (list[float], np.ones(3)),
    (tuple[int, str], (1, "a")),
    (Decimal, Decimal("0.1")),
    (dict[str, date], {"a": date(2026, 1, 1)}),
    (House, {"rooms": [{"area": 1}]}),
    (House | None, None),
    (Aliased, Aliased(price=1)),
    (Room, Room(area=1)),
    (dict, Kitchen(area=1)),
]


@pytest.mark.parametrize(("hint", "value", "place", "why"), MISFITS)
def test_it_is_told_where_and_why(hint: Any, value: Any, place: str, why: str) -> None:
    text = told(hint, value)
    assert place in text
    assert why in text


@pytest.mark.parametrize(("hint", "value", "place", "why"), MISFITS)
def test_it_is_an_error_where_that_is_asked_for(
    hint: Any, value: Any, place: str, why: str
) -> None:
    with pytest.raises(TypeError, match=r"\(validate_output\)"):
        told(hint, value, is_strict=True)


@pytest.mark.parametrize(("hint", "value"), FITS)
@pytest.mark.parametrize("is_strict", [True, False])
def test_what_fits_is_not_told(hint: Any, value: Any, is_strict: bool) -> None:
    assert told(hint, value, is_strict=is_strict) == ""


def test_each_place_is_told_once_whatever_its_number() -> None:
    check_ = OutputCheck(signature_of(_rooms).output, is_strict=False)
    first = [Kitchen(area=1)]
    assert check_.look(first, b'[{"area":1.0}]')
    assert not check_.look(first, b'[{"area":1.0}]')
    assert not check_.look([Room(area=1), Kitchen(area=1)], b'[{"area":1.0},{"area":1.0}]')
    assert check_.look("rooms", b'"rooms"')


def test_of_many_values_some_are_looked_at() -> None:
    check_ = OutputCheck(signature_of(_rooms).output, is_strict=False)
    for _ in range(ALWAYS):
        assert not check_.look([], b"[]")
    looked = [bool(check_.look("x", b'"x"')) for _ in range(ALWAYS)]
    assert looked == [False] * (ALWAYS - 1) + [True]


def test_a_validator_that_raises_is_nobodys_fault_unless_output_is_to_be_valid() -> None:
    fussy = Fussy.model_construct(x=1)
    assert told(Fussy, fussy) == ""
    with pytest.raises(KeyError):
        told(Fussy, fussy, is_strict=True)


@pytest.mark.parametrize("hint", [Any, None, object])
def test_a_hint_that_says_nothing_is_none(hint: Any) -> None:
    assert not is_declared(hint)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_the_option_is_true_or_false(value: Any) -> None:
    with pytest.raises(DefinitionError, match="write True or False"):
        check({"validate_output": value}, "f.py", 1)


def _rooms() -> list[Room]:
    return []


def _items() -> Iterator[Room]:
    yield Kitchen(area=1)
