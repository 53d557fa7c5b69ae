"""Bodies that are sent piece by piece: a form, or a file alone."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from skipper.client.sources import BodySource
from skipper.values.value import JSON


class StreamedBody:
    """One source as it is."""

    def __init__(self, source: BodySource) -> None:
        self._source = source
        self.media_type = source.media_type

    @property
    def size(self) -> int | None:
        """In bytes, where that is known."""
        return self._source.size

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent, again or at all."""
        return not self._source.is_spent

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, from the beginning."""
        return self._source.chunks()


class FormBody:
    """A form (``multipart/form-data``, RFC 7578): sources, and JSON for all else.

    The same bytes at each try, so that a gateway takes a second one for what it is.
    """

    def __init__(self, fields: Sequence[tuple[str, Any]]) -> None:
        self._boundary = secrets.token_hex(16)
        self._parts = [(self._head(name, value), _content(value)) for name, value in fields]
        self._end = f"--{self._boundary}--\r\n".encode()
        self.media_type = f"multipart/form-data; boundary={self._boundary}"

    def _head(self, name: str, value: Any) -> bytes:
        is_source = isinstance(value, BodySource)
        lines = [f'Content-Disposition: form-data; name="{_escaped(name)}"']
        if is_source:
            lines[0] += f'; filename="{_escaped(value.name or name)}"'
        lines.append(f"Content-Type: {value.media_type if is_source else JSON}")
        return "\r\n".join((f"--{self._boundary}", *lines, "", "")).encode()

    @property
    def size(self) -> int | None:
        """In bytes, where that is known."""
        sizes = [source.size for _, source in self._parts]
        if None in sizes:
            return None
        heads = sum(len(head) + 2 for head, _ in self._parts)
        return heads + sum(size for size in sizes if size is not None) + len(self._end)

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent, again or at all."""
        return not any(source.is_spent for _, source in self._parts)

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, from the beginning."""
        for head, source in self._parts:
            yield head
            yield from source.chunks()
            yield b"\r\n"
        yield self._end


def _content(value: Any) -> BodySource:
    if isinstance(value, BodySource):
        return value
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return BodySource(media_type=JSON, size=len(data), buffers=(data,))


def _escaped(text: str) -> str:
    """As browsers write it: what would end the quotes or the line is percent-encoded."""
    return text.translate({ord(each): quote(each) for each in '"\r\n\0'})
