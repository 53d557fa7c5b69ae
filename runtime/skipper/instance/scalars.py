"""Plain values of a model beside its parts, as JSON: numbers, texts, bytes, dates, enums.

What JSON has is itself; all else is an object with one member, whose name is one of this module's
and never an author's.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import enum
import math
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

from skipper.errors import FormatError
from skipper.instance import classes

_LARGE = 1 << 53
"""From here on other readers of JSON would round an integer."""
_DTYPE = re.compile(r"[<>|=](?:[biufc][0-9]{1,2}|[US][0-9]{1,9}|[mM]8(?:\[[0-9a-zA-Z/]{1,12}\])?)")
_AS_TEXT: dict[type, Callable[[str], Any]] = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    uuid.UUID: uuid.UUID,
}
_PLAIN = (str, bool, type(None))


def is_scalar(value: Any) -> bool:
    """Whether :func:`write` writes it."""
    kind = type(value)
    return (
        kind in _PLAIN
        or kind in (int, float, bytes, dt.timedelta)
        or kind in _AS_TEXT
        or isinstance(value, enum.Enum)
        or _is_numpys(value)
    )


def _is_numpys(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biufcUSmM"
    )


def write(value: Any) -> Any:
    """The JSON of a plain value. Raises FormatError for a member of an enum that is not found."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if abs(value) < _LARGE else {"int": f"{value:x}"}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if kind is dt.timedelta:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if kind in _AS_TEXT:
        text = value.isoformat() if hasattr(value, "isoformat") else str(value)
        return {kind.__name__.lower(): text}
    if isinstance(value, enum.Enum):
        if value.name not in kind.__members__:
            raise FormatError(f"{value!r:.100} is several members of an enum: save them as a list")
        return {"enum": [classes.name_of(kind), value.name]}
    return {"numpy": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}


def _number(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(text)
    return float(text)


def _member_of_enum(item: list[str]) -> Any:
    name, member = item
    cls = classes.find(name)
    if not issubclass(cls, enum.Enum):
        raise FormatError(f"{name} is no enum any more, and the model was saved with its {member}")
    if member not in cls.__members__:
        raise FormatError(f"{name} has no member {member!r:.200} any more, and the model has it")
    return cls[member]


def _of_numpy(item: list[str]) -> Any:
    dtype, data = item
    if not _DTYPE.fullmatch(dtype):
        raise ValueError(dtype)
    import numpy as np

    (found,) = np.frombuffer(base64.b64decode(data, validate=True), dtype)
    return found


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": _number,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "timedelta": lambda parts: dt.timedelta(*map(int, parts)),
    "enum": _member_of_enum,
    "numpy": _of_numpy,
    **{kind.__name__.lower(): read for kind, read in _AS_TEXT.items()},
}
TAGS = frozenset(_READERS)
"""The names of members that :func:`read` knows."""


def read(tag: str, item: Any) -> Any:
    """The plain value that was written as ``{tag: item}``. Raises FormatError."""
    try:
        return _READERS[tag](item)
    except FormatError:
        raise
    except (ValueError, TypeError, ArithmeticError, binascii.Error) as error:
        raise FormatError(f"the saved model is damaged: a {tag} that is none ({error})") from None
