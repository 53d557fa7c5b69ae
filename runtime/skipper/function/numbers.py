"""Numbers of a JSON body that no float can be: pydantic makes infinities of them, JSON has none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_find_exponent = re.compile(rb"e000").search
_LONG = b"0" * 200
"""Fewer digits, with an exponent of two, come to no infinity."""


def check_numbers(body: bytes) -> bool:
    """Raise ValidationError for ``NaN``, ``Infinity`` and what is too large to be a float: 1e400.

    An integer may be as large, for a parameter may be an int: True where there is such, for
    :func:`check_parsed` to look at what it has become. Only where the like occurs, in a text
    perhaps, is the body read once more.
    """
    if not (b"NaN" in body or b"Infinity" in body or _may_overflow(body)):
        return False
    integers = _Integers()
    try:
        json.loads(body, parse_float=_finite, parse_constant=_refuse, parse_int=integers.see)
    except _InfiniteError as error:
        raise _invalid(error) from None
    except (ValueError, RecursionError):  # pydantic says better what is wrong with it
        return False
    return integers.are_large


def check_parsed(value: Any) -> None:
    """Raise ValidationError where a large integer has been read as an infinite float."""
    if _holds_infinity(value):
        raise _invalid(_InfiniteError("a number is too large for the float that it is to be"))


def _holds_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, Mapping):
        return any(map(_holds_infinity, value.values()))
    if isinstance(value, list | tuple | Set):
        return any(map(_holds_infinity, value))
    if isinstance(value, BaseModel):
        return any(map(_holds_infinity, vars(value).values()))
    if is_dataclass(value):
        return any(_holds_infinity(getattr(value, field.name)) for field in fields(value))
    return False


def _may_overflow(body: bytes) -> bool:
    """Whether there may be a number of a large exponent or of many digits.

    In a body in which every digit is the same, because to look for all of them costs more than
    pydantic's reading of the whole.
    """
    shape = body.translate(_SHAPE, b"+")
    return _find_exponent(shape) is not None or _LONG in shape


class _InfiniteError(ValueError):
    """A number that is none."""


class _Integers:
    """Sees the integers of a body; whether some ``are_large`` enough to be no float."""

    def __init__(self) -> None:
        self.are_large = False

    def see(self, text: str) -> None:
        self.are_large |= math.isinf(float(text))


def _finite(text: str) -> None:
    if math.isinf(float(text)):
        raise _InfiniteError(f"the number {_shortened(text)} is too large")


def _refuse(name: str) -> NoReturn:
    raise _InfiniteError(f"{name} is no number of JSON")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]}…{text[-20:]}"


def _invalid(error: ValueError) -> ValidationError:
    detail: Any = {"type": "json_invalid", "loc": (), "input": "", "ctx": {"error": str(error)}}
    return ValidationError.from_exception_data("body", [detail])
