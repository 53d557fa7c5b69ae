"""The value types that every instance knows: ``bytes`` and :class:`skipper.File`."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from skipper.values.file import OCTETS, File
from skipper.values.types import Content, ValueType, Written
from skipper.values.value import JSON

_ANYTHING = "*/*"
_NOT_BASE64 = "is no base64 (RFC 4648): letters, digits, + and /, padded with ="
_URL_SAFE = re.compile(r"[A-Za-z0-9_-]*={0,2}")


def decoded(text: Any) -> bytes:
    """The bytes that base64 stands for, of either alphabet of RFC 4648, with or without padding.

    Raises ValueError for what is none: decoding leniently would make other bytes of it.
    """
    if not isinstance(text, str):
        raise ValueError(f'base64 text or {{"file": ID}} is needed, not {type(text).__name__}')
    bare = text.rstrip("=")
    padding = len(text) - len(bare)
    if padding > 2 or (padding and len(text) % 4) or len(bare) % 4 == 1:
        raise ValueError(_NOT_BASE64)
    altchars = b"-_" if _URL_SAFE.fullmatch(text) else None
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars, validate=True)
    except (binascii.Error, ValueError):  # such as for letters that are not ASCII
        raise ValueError(_NOT_BASE64) from None
    return data


class BytesType(ValueType):
    """``bytes``: in JSON base64, else as they are."""

    name = "bytes"
    reads = (_ANYTHING,)
    writes = (OCTETS, JSON)
    native = OCTETS
    is_base64_in_json = True

    def is_value(self, value: object) -> bool:
        return isinstance(value, bytes | bytearray | memoryview)

    def to_json(self, value: Any) -> str:
        return base64.b64encode(value).decode()

    def read(self, content: Content) -> bytes:
        return content.read()

    def write(self, value: Any, media_type: str) -> Written:
        del media_type
        return Written(media_type=OCTETS, buffers=(value,))

    def accepted(self, value: Any) -> bytes:
        return bytes(value)


class FileType(ValueType):
    """:class:`skipper.File`: bytes of any media type that stay on the disk."""

    name = "a file"
    reads = (_ANYTHING,)
    writes = (_ANYTHING,)
    native = _ANYTHING
    is_base64_in_json = True

    def is_value(self, value: object) -> bool:
        return isinstance(value, File)

    def to_json(self, value: File) -> str:
        return base64.b64encode(value.path.read_bytes()).decode()

    def read(self, content: Content) -> File:
        return File.received(content.path(), content.name, content.media_type, content)

    def write(self, value: File, media_type: str) -> Written:
        del media_type
        return Written(media_type=value.media_type, path=value.path, name=value.name or None)


BYTES = BytesType()
FILE = FileType()


def find(hint: Any, marks: tuple[Any, ...]) -> ValueType | None:
    """The built-in value type of a hint."""
    del marks
    if hint is File:
        return FILE
    return BYTES if hint is bytes else None
