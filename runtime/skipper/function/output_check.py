"""Whether what a function returns is what its hint says: its JSON, and nothing of it is lost.

Pydantic answers a value of another type as if it were right, and of a subclass the fields that the
hint knows. Whether that is wanted nobody can tell, so it is found here and told.
"""

from __future__ import annotations

import inspect
import json
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from skipper.function.parameters import type_name
from skipper.function.plain import plain
from skipper.values.crossing import Adapter

ALWAYS = 100
"""So many values of a process are looked at, and then every so many."""
MAX_TOLD = 20
"""Places of which a process tells."""


class Misfit(NamedTuple):
    """Where a value is not what was declared, and how."""

    place: str
    """``/rooms/0/area``; empty for the value as a whole."""
    problem: str


def is_declared(returned: Any) -> bool:
    """Whether a hint says anything that a value could miss."""
    return returned not in (Any, None, inspect.Signature.empty, object)


def misfit(output: Adapter, value: Any, text: bytes) -> Misfit | None:
    """How ``value``, whose JSON is ``text``, is not what ``output`` declares; None where it is."""
    return _of_type(output, value, text) or _of_fields(output, value, text)


def _of_type(output: Adapter, value: Any, text: bytes) -> Misfit | None:
    try:
        output.validator.validate_json(text)
    except ValidationError as error:
        if _is_as_declared(output, value):  # with aliases and computed fields, it reads otherwise
            return None
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return Misfit("".join(f"/{part}" for part in first["loc"]), first["msg"])
    return None


def _is_as_declared(output: Adapter, value: Any) -> bool:
    try:
        output.validator.validate_python(value)
        output.serializer.to_json(value, fallback=plain, warnings="error", by_alias=True)
    except (ValidationError, PydanticSerializationError):
        return False
    return True


def _of_fields(output: Adapter, value: Any, text: bytes) -> Misfit | None:
    try:
        whole = output.serializer.to_json(
            value, fallback=plain, warnings="none", by_alias=True, serialize_as_any=True
        )
    except (PydanticSerializationError, TypeError, ValueError):
        return None
    if len(whole) <= len(text):
        return None
    found = _lost(json.loads(text), json.loads(whole), "")
    if found is None:
        return None
    kind = type_name(type(value)) if found.count("/") == 1 else "a subclass"
    return Misfit(found, f"the hint does not have this field, which {kind} has: it is left out")


def _lost(kept: Any, whole: Any, place: str) -> str | None:
    """The first place in ``whole`` that ``kept`` does not have."""
    if isinstance(kept, dict) and isinstance(whole, dict):
        for name, inner in whole.items():
            if name not in kept:
                return f"{place}/{name}"
            if (found := _lost(kept[name], inner, f"{place}/{name}")) is not None:
                return found
    elif isinstance(kept, list) and isinstance(whole, list):
        for at, (mine, theirs) in enumerate(zip(kept, whole, strict=False)):
            if (found := _lost(mine, theirs, f"{place}/{at}")) is not None:
                return found
    return None


class OutputCheck:
    """Looks at what one function returns.

    Where ``is_strict``, a value that is not as declared is an error; else it is told, each place
    once, and of many values some are looked at.
    """

    def __init__(self, output: Adapter, *, is_strict: bool) -> None:
        self._output, self._is_strict = output, is_strict
        self._seen = 0
        self._told: set[str] = set()

    def look(self, value: Any, text: bytes) -> str:
        """What is to be told about a value; empty for nothing. Raises TypeError where strict."""
        self._seen += 1
        if not self._is_strict and self._seen > ALWAYS and self._seen % ALWAYS:
            return ""
        found = self._misfit(value, text)
        if found is None:
            return ""
        what = f"the returned value{f' at {found.place}' if found.place else ''}"
        if self._is_strict:
            raise TypeError(f"{what} is not what the hint says: {found.problem} (validate_output)")
        general = "/".join("*" if part.isdigit() else part for part in found.place.split("/"))
        if general in self._told or len(self._told) >= MAX_TOLD:
            return ""
        self._told.add(general)
        return (
            f"{what} is not what the hint says: {found.problem}. It was answered; this is told "
            "once, and validate_output=True makes it an error"
        )

    def _misfit(self, value: Any, text: bytes) -> Misfit | None:
        try:
            return misfit(self._output, value, text)
        except Exception:
            # A validator of the user's own, which was written for what comes in.
            if self._is_strict:
                raise
            return None
