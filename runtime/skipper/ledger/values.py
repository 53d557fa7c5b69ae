"""How a value stands in a row: three columns, of which one of the first two is null."""

from __future__ import annotations

from typing import Any

from skipper.values.value import JSON, Value


def columns(name: str, value: Value | None) -> dict[str, Any]:
    """The columns ``NAME``, ``NAME_ref`` and ``NAME_type``; all null where there is no value.

    The type of JSON is null, too: nearly every value is JSON, and a null takes no room in a row.
    """
    if value is None:
        return {name: None, f"{name}_ref": None, f"{name}_type": None}
    media_type = None if value.media_type == JSON else value.media_type
    return {name: value.inline, f"{name}_ref": value.ref, f"{name}_type": media_type}


def value_of(inline: bytes | None, ref: str | None, media_type: str | None) -> Value | None:
    """The value in such columns."""
    if inline is None and ref is None:
        return None
    return Value(inline=inline, ref=ref, media_type=media_type or JSON)
