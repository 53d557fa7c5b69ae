"""How a value stands in a row: four columns, of which one of the first two is null."""

from __future__ import annotations

from typing import Any

from skipper.values.value import JSON, Value


def names(name: str) -> tuple[str, ...]:
    """Of the columns of the value ``name``."""
    return name, f"{name}_ref", f"{name}_size", f"{name}_type"


def columns(name: str, value: Value | None) -> dict[str, Any]:
    """The columns of :func:`names`; all null where there is no value.

    The type of JSON is null, too: nearly every value is JSON, and a null takes no room in a row.
    """
    if value is None:
        return dict.fromkeys(names(name))
    media_type = None if value.media_type == JSON else value.media_type
    return dict(zip(names(name), (value.inline, value.ref, value.size, media_type), strict=True))


def value_of(inline: bytes | None, ref: str | None, media_type: str | None) -> Value | None:
    """The value in such columns."""
    if inline is None and ref is None:
        return None
    return Value(inline=inline, ref=ref, media_type=media_type or JSON)
