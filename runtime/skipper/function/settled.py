"""What JSON would write as something else, or leave out: made plain, or refused with its place.

pydantic writes these itself, without asking: complex numbers and ``Decimal("NaN")`` as texts, keys
as whatever text they have. A value that holds none of them is not copied.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import numbers
import pathlib
import sys
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import chain
from typing import Any

from pydantic import BaseModel

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})
_TEXT = frozenset({str})
_LISTS = (list, tuple, set, frozenset)
_KEYS = (str, numbers.Real, Decimal, enum.Enum, uuid.UUID, pathlib.PurePath)
_TIMES = (dt.date, dt.time, dt.timedelta)


class _PlaceError(Exception):
    """What is wrong, and the way to it, the innermost step first."""

    def __init__(self, kind: type[Exception], reason: str) -> None:
        super().__init__(reason)
        self.kind, self.steps = kind, list[str]()


def settled(value: Any) -> Any:
    """The value, with null for dates and decimals that are missing or no numbers.

    Raises TypeError or ValueError for what JSON would not keep, with a JSON pointer to it.
    """
    try:
        return _settled(value)
    except _PlaceError as error:
        place = f" (at /{'/'.join(reversed(error.steps))})" if error.steps else ""
        raise error.kind(f"{error}{place}") from None
    except RecursionError:  # pydantic tells of it
        return value


def _settled(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return _of_dict(value)
    if isinstance(value, _LISTS):
        return _of_list(value)
    if isinstance(value, complex):
        reason = "complex numbers are not JSON; return their real and imaginary parts"
        raise _PlaceError(TypeError, reason)
    if _is_missing(value):
        return None
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        _check_members(value)
    return value


def _inner(value: Any, step: object) -> Any:
    try:
        return _settled(value)
    except _PlaceError as error:
        error.steps.append(str(step))
        raise


def _of_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    if not _TEXT.issuperset(map(type, value)):
        _check_keys(value)
    if _PLAIN.issuperset(map(type, value.values())):
        return value
    made = {key: _inner(each, key) for key, each in value.items()}
    return made if _differs(made.values(), value.values()) else value


def _of_list(value: Any) -> Any:
    kinds = {*map(type, value)}
    if _PLAIN.issuperset(kinds) or _are_plain_rows(value, kinds):
        return value
    made = [_inner(each, index) for index, each in enumerate(value)]
    return made if _differs(made, value) else value


def _are_plain_rows(rows: Any, kinds: set[type]) -> bool:
    """Whether these are lists or dicts of plain cells: found without a step for each of them."""
    if kinds == {list}:
        return _PLAIN.issuperset(map(type, chain.from_iterable(rows)))
    if kinds == {dict}:
        cells = chain.from_iterable(map(dict.values, rows))
        keys = map(type, chain.from_iterable(rows))
        return _TEXT.issuperset(keys) and _PLAIN.issuperset(map(type, cells))
    return False


def _differs(made: Iterable[Any], given: Iterable[Any]) -> bool:
    return any(new is not old for new, old in zip(made, given, strict=True))


def _check_keys(value: Mapping[Any, Any]) -> None:
    """Raise for keys that have no text of their own, and for two that have the same."""
    texts: dict[str, Any] = {}
    for key in value:
        is_nan = isinstance(key, float) and math.isnan(key)
        if is_nan or _is_missing(key) or not isinstance(key, _KEYS + _TIMES):
            raise _PlaceError(TypeError, f"{key!r:.100} is no key of JSON: use a text")
        text = _text(key)
        if text in texts:
            same = f"the keys {texts[text]!r:.100} and {key!r:.100} are one in JSON"
            raise _PlaceError(ValueError, f"{same}: use texts that differ")
        texts[text] = key


def _text(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return str(key.value) if isinstance(key, enum.Enum) else str(key)


def _check_members(value: Any) -> None:
    """Raise for a member of a model or a dataclass that would be kept as something else."""
    for name, member in getattr(value, "__dict__", {}).items():
        if _inner(member, name) is not member:
            error = _PlaceError(ValueError, f"{name} is {member!r:.100}: return None")
            error.steps.append(name)
            raise error


def _is_missing(value: Any) -> bool:
    """Whether it is a date that is none, or a decimal that is no finite number."""
    if isinstance(value, Decimal):
        return not value.is_finite()
    pandas = sys.modules.get("pandas")
    return pandas is not None and value is getattr(pandas, "NaT", value)
