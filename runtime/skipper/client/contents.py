"""What an answer is: JSON, or a value of the type that its bytes are of. No I/O.

An array is one where NumPy is installed, a picture where Pillow is, a table where Arrow is, and
bytes otherwise. What is asked for follows from that.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from skipper.client.messages import Reply
from skipper.errors import UnavailableError
from skipper.values.crossing import VALUE_TYPES, read_value
from skipper.values.envelope import Envelope, Part, as_body
from skipper.values.file import OCTETS
from skipper.values.opening import OpenParts, Places
from skipper.values.spool import Spool
from skipper.values.types import ValueType, matches
from skipper.values.value import JSON

NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"
_CLASSES = {
    NPY: ("numpy", "ndarray"),
    ARROW: ("pyarrow", "Table"),
    "image/png": ("PIL.Image", "Image"),
    "image/*": ("PIL.Image", "Image"),
}
"""Media type → the class that its bytes become, and what it is a member of."""
_EXACT_NAME = re.compile(r"filename\*=UTF-8''([^;\s]+)", re.IGNORECASE)  # RFC 8187
_NAME = re.compile(r'filename="?([^";]*)', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an invocation was answered: a value, in ``reply``, or the task that is to make it."""

    reply: Reply
    task: dict[str, Any] | None = None
    code: str | None = None
    model: str | None = None
    deployment: str | None = None

    @property
    def value(self) -> Any:
        """The value; None for a task. Raises UnavailableError for what cannot be read."""
        return None if self.task is not None else value_of(self.reply)


@functools.cache
def accept() -> str:
    """An Accept header: what becomes a value here, rather than JSON, rather than anything else.

    Bytes are wanted as they are, because in JSON they would be base64.
    """
    known = [media_type for media_type in _CLASSES if _is_installed(media_type)]
    wanted = dict.fromkeys([*known, OCTETS, "image/png"])
    return f"{', '.join(wanted)}, {JSON};q=0.95, */*;q=0.9"


def is_json(reply: Reply) -> bool:
    """Whether an answer is JSON and no file that happens to be."""
    is_file = "filename" in reply.headers.get("content-disposition", "")
    return media_type_of(reply) in (JSON, "") and not is_file


def media_type_of(reply: Reply) -> str:
    """Without parameters; empty where the answer does not say."""
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()


def value_of(reply: Reply) -> Any:
    """The value that an answer is. Raises UnavailableError for what no gateway has sent."""
    if reply.saved is not None:
        return reply.saved
    if is_json(reply):
        return reply.json()
    if "x-request-id" not in reply.headers and media_type_of(reply).startswith("text/"):
        return reply.json()  # a proxy's page or another server's, which is said so
    media_type = media_type_of(reply)
    if (found := _type_of(media_type)) is None:
        return reply.content
    part = Part(media_type=media_type, size=len(reply.content), data=reply.content)
    places = Places(spool=Spool(Path(tempfile.gettempdir(), "skipper-spool")))
    try:
        return read_value(found, OpenParts((part,), places).sole)
    except ValueError as error:
        raise UnavailableError(
            f"The answer cannot be read as {found.name}, which it is called: {error}."
        ) from None


def body_of(reply: Reply) -> bytes:
    """The answer as functions exchange it: JSON, or an envelope."""
    if is_json(reply):
        json.loads(reply.content or b"null")
        return reply.content
    part = Part(
        media_type=media_type_of(reply) or OCTETS,
        size=len(reply.content),
        data=reply.content,
        name=file_name(reply),
    )
    return as_body(Envelope(parts=(part,)))


def file_name(reply: Reply) -> str | None:
    """What the answer is to be called, as its sender said: not a path, it may be anything."""
    header = reply.headers.get("content-disposition", "")
    if exact := _EXACT_NAME.search(header):
        return unquote(exact[1]) or None
    named = _NAME.search(header)
    return named[1] or None if named else None


def _is_installed(media_type: str) -> bool:
    module, _ = _CLASSES[media_type]
    return importlib.util.find_spec(module.partition(".")[0]) is not None


@functools.cache
def _type_of(media_type: str) -> ValueType | None:
    for pattern, (module, name) in _CLASSES.items():
        if matches(media_type, (pattern,)) and _is_installed(pattern):
            return VALUE_TYPES.find(getattr(importlib.import_module(module), name))
    return None
