"""How the values of one call travel, as its function's document says. No I/O.

What a parameter takes as it is goes as a part of a form, in the one request that there is to make,
because what is uploaded would be stored and have to be removed again. What stands deeper in the
body has no part of its own: a few bytes go as base64, all else is uploaded and referred to.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipper.client.bodies import FormBody
from skipper.client.messages import to_body
from skipper.client.sources import BodySource, source_of
from skipper.values import forms
from skipper.values.envelope import reference
from skipper.values.file import File

INLINE = 64 << 10
"""Up to so many bytes that stand deep in a body go as base64."""
MOST_PARTS = 100
"""Of a form, as the gateway has it."""


@dataclass(eq=False)
class Upload:
    """A source that is to be uploaded; its ``id`` once it has been."""

    source: BodySource
    id: str = ""


@dataclass(frozen=True)
class Packed:
    """A body: of a form its fields, else JSON in which uploads stand for what they are of."""

    fields: list[tuple[str, Any]] | None = None
    json: Any = None
    uploads: list[Upload] = field(default_factory=list)

    def content(self) -> bytes | FormBody:
        """What is sent, once the uploads are done."""
        if self.fields is None:
            return to_body(_referring(self.json))
        fields = [
            (name, value if isinstance(value, BodySource) else to_body(_referring(value)))
            for name, value in self.fields
        ]
        return FormBody(fields)


def pack(body: Any, document: Mapping[str, Any]) -> Packed:
    """How ``body`` travels to the function of ``document``.

    Raises TypeError for a value where the function takes none of its kind, OSError for a file that
    is not there.
    """
    schema: forms.Schema = document.get("input_schema") or {}
    uploads: list[Upload] = []
    if isinstance(body, Mapping) and (fields := _fields(body, document)) is not None:
        placed = [
            (name, value)
            if isinstance(value, BodySource)
            else (name, _placed(value, forms.member_schema(schema, name), f"/{name}", uploads))
            for name, value in fields
        ]
        return Packed(fields=placed, uploads=uploads)
    if _is_many(body, schema):
        items = [
            _placed(each, schema, f"/items/{index}", uploads)
            for index, each in enumerate(body["items"])
        ]
        return Packed(json={"items": items}, uploads=uploads)
    return Packed(json=_placed(body, schema, "", uploads), uploads=uploads)


def _is_many(body: Any, schema: forms.Schema) -> bool:
    """Whether it is many bodies in one, as functions with ``batch=`` take them."""
    is_items = isinstance(body, Mapping) and body.keys() == {"items"}
    return is_items and isinstance(body["items"], list) and "items" not in forms.properties(schema)


def _fields(body: Mapping[str, Any], document: Mapping[str, Any]) -> list[tuple[str, Any]] | None:
    """The fields of a form; None where nothing would be gained by one, or it cannot be."""
    one, many = document.get("takes") or {}, document.get("takes_many") or ()
    fields: list[tuple[str, Any]] = []
    for name, value in body.items():
        if name in many and isinstance(value, list | tuple):
            sources = [source_of(each) for each in value]
            if not sources or None in sources:
                return None
            fields += ((name, source) for source in sources)
        else:
            source = source_of(value) if name in one or name in many else None
            fields.append((name, value if source is None else source))
    has_files = any(isinstance(value, BodySource) for _, value in fields)
    return fields if has_files and len(fields) <= MOST_PARTS else None


def _placed(value: Any, schema: forms.Schema, where: str, uploads: list[Upload]) -> Any:
    """``value`` as it stands in JSON, with uploads for what is none."""
    if isinstance(value, Mapping):
        return {
            name: _placed(each, forms.member_schema(schema, name), f"{where}/{name}", uploads)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        item = forms.item_schema(schema)
        return [
            _placed(each, item, f"{where}/{index}", uploads) for index, each in enumerate(value)
        ]
    if not forms.takes_file(schema):
        return _plain(value, schema, where)
    if (source := source_of(value)) is None:
        return value
    is_small = isinstance(value, bytes | bytearray) and len(value) <= INLINE
    if is_small and forms.takes_base64(schema):
        return base64.b64encode(value).decode()
    uploads.append(Upload(source))
    return uploads[-1]


def _plain(value: Any, schema: forms.Schema, where: str) -> Any:
    """A value for a place that takes JSON alone: an array is a list there."""
    is_file = isinstance(value, bytes | bytearray | memoryview | Path | File | BodySource)
    if not is_file and not callable(getattr(value, "read", None)):
        return value
    if isinstance(value, bytes) and (encoded := forms.own_bytes(schema, value)) is not None:
        return encoded
    raise TypeError(
        f"{where or '/'}: the function takes no {type(value).__name__} there: its type hint is "
        "neither bytes nor skipper.File; send what it says."
    )


def _referring(value: Any) -> Any:
    if isinstance(value, Upload):
        return reference(value.id)
    if isinstance(value, Mapping):
        return {name: _referring(each) for name, each in value.items()}
    return [_referring(each) for each in value] if isinstance(value, list) else value
