"""Numbers that pydantic would make infinities of."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from skipper.function.signature import signature_of

TOO_LARGE = [
    "1e400",
    "-1E400",
    "1e+400",
    "0.001e0000500",
    "9" * 250 + "e90",
    "1" + "0" * 400 + ".0",
]
"""Each on a way of its own beyond what a float holds."""


class House(BaseModel):
    rm: float


def anything(x: Any) -> None: ...


def numbers(x: float | list[float] | dict[str, float]) -> None: ...


def house(house: House) -> None: ...


def whole(x: int) -> None: ...


def is_malformed(take: Any, body: str) -> bool:
    with pytest.raises(ValidationError) as caught:
        signature_of(take).parse(body.encode())
    return caught.value.errors()[0]["type"] == "json_invalid"


@pytest.mark.parametrize("number", TOO_LARGE)
def test_a_number_too_large_to_be_a_float_is_refused_as_infinity_is(number: str) -> None:
    for take in (anything, numbers):
        for value in (number, f"[1, {number}]", f'{{"deep": {number}}}'):
            assert is_malformed(take, f'{{"x": {value}}}')
    assert is_malformed(house, f'{{"rm": {number}}}')
    with pytest.raises(ValidationError):
        signature_of(anything).parse_items(f'{{"items": [{{"x": {number}}}]}}'.encode())


def test_a_large_integer_is_an_int_and_no_infinite_float() -> None:
    text = "1" + "0" * 400
    assert signature_of(whole).parse(f'{{"x": {text}}}'.encode()) == {"x": 10**400}
    assert signature_of(anything).parse(f'{{"x": [{text}]}}'.encode()) == {"x": [10**400]}
    assert is_malformed(numbers, f'{{"x": {text}}}')
    assert is_malformed(house, f'{{"rm": -{text}}}')


def test_of_many_items_the_one_with_such_a_number_is_wrong() -> None:
    body = f'{{"items": [{{"rm": 1{"0" * 400}}}, {{"rm": 6.5}}]}}'
    items = signature_of(house).parse_items(body.encode())
    assert items is not None
    wrong, right = items
    assert isinstance(wrong, ValidationError)
    assert right == {"house": House(rm=6.5)}


def test_more_digits_than_an_int_may_have_are_no_json() -> None:
    assert is_malformed(whole, f'{{"x": {"9" * 5000}}}')


@pytest.mark.parametrize(
    "text", ["face000", "1e400", "e+000", "0" * 300, "NaN and 1e999", "\\u00e0e000"]
)
def test_what_looks_like_such_a_number_in_a_text_is_a_text(text: str) -> None:
    parsed = signature_of(anything).parse(f'{{"x": "{text}"}}'.encode())
    assert parsed == {"x": text.replace("\\u00e0", "à")}


def test_the_largest_and_the_smallest_floats_are_let_in() -> None:
    body = b'{"x": [1.7976931348623157e308, 5e-324, 1e-400, 0e999, 1E+3, 1e007]}'
    assert signature_of(anything).parse(body) == {
        "x": [float.fromhex("0x1.fffffffffffffp1023"), 5e-324, 0.0, 0.0, 1000.0, 1e7]
    }
