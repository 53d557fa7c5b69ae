"""What a caller hands over that is no JSON, as bytes that are read when they are sent.

Files are read piece by piece, and anew for each try. What has no way back, such as a pipe, is sent
once at most.
"""

from __future__ import annotations

import io
import mimetypes
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from skipper.values.crossing import VALUE_TYPES
from skipper.values.file import OCTETS, File
from skipper.values.types import ValueType

CHUNK = 256 << 10
"""Bytes that are read at once."""


@dataclass(eq=False, kw_only=True)
class BodySource:
    """Bytes of one media type: ``buffers``, or what is at ``path``, or what ``stream`` gives."""

    media_type: str = OCTETS
    name: str | None = None
    size: int | None = None
    """None where it ends only once it has been read."""
    buffers: tuple[Any, ...] = ()
    path: Path | None = None
    stream: BinaryIO | None = None
    start: int | None = 0
    """Of a stream: where it stood; None for one that has no way back."""
    is_spent: bool = False
    """Whether it has been read and cannot be read again."""

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, from the beginning. Raises OSError, ValueError for what is spent."""
        if self.is_spent:
            raise ValueError(
                f"{self.name or 'a stream'} has been read already, and has no way back"
            )
        if self.path is not None:
            with self.path.open("rb") as stream:
                yield from _read(stream)
        elif self.stream is not None:
            if self.start is None:
                self.is_spent = True
            else:
                self.stream.seek(self.start)
            yield from _read(self.stream)
        else:
            for buffer in self.buffers:
                whole = memoryview(buffer).cast("B")
                yield from (bytes(whole[at : at + CHUNK]) for at in range(0, len(whole), CHUNK))

    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks())


def _read(stream: BinaryIO) -> Iterator[bytes]:
    while data := stream.read(CHUNK):
        yield data


def source_of(value: Any) -> BodySource | None:
    """What ``value`` is as bytes; None for what is to be JSON.

    Raises FileNotFoundError for a path where nothing is, TypeError for a file opened as text.
    """
    if value is None or isinstance(value, str | int | float | dict | list | tuple):
        return None
    if isinstance(value, BodySource):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return BodySource(size=memoryview(value).nbytes, buffers=(value,))
    if isinstance(value, Path):
        return source_of(File(value))
    if isinstance(value, File):
        return BodySource(
            media_type=value.media_type, name=value.name or None, size=value.size, path=value.path
        )
    if callable(getattr(value, "read", None)):
        return _of_stream(value)
    if (found := value_type_of_class(type(value))) is None:
        return None
    written = found.write(value, found.native)
    if written.path is not None:
        size = written.path.stat().st_size
    else:
        size = sum(memoryview(each).nbytes for each in written.buffers)
    return BodySource(
        media_type=written.media_type,
        name=written.name,
        size=size,
        buffers=tuple(written.buffers),
        path=written.path,
    )


def file_source(value: Any, name: str | None = None, media_type: str | None = None) -> BodySource:
    """What ``value`` is as a file, under another name or type where those are given.

    Raises TypeError for plain data, and as :func:`source_of` does.
    """
    if (source := source_of(value)) is None:
        kind = type(value).__name__
        raise TypeError(f"a path, bytes, an open file or a value of a type is sent, not {kind}")
    guessed = mimetypes.guess_type(name)[0] if name and source.media_type == OCTETS else None
    return replace(
        source, name=name or source.name, media_type=media_type or guessed or source.media_type
    )


def value_type_of_class(cls: type) -> ValueType | None:
    """The value type of a class or of one that it extends, such as a picture of one format."""
    known = (VALUE_TYPES.find(each) for each in cls.__mro__[:-1])
    return next((found for found in known if found is not None), None)


def has_sources(body: Any) -> bool:
    """Whether something in ``body`` is no JSON."""
    if isinstance(body, Mapping):
        return any(map(has_sources, body.values()))
    if isinstance(body, list | tuple):
        return any(map(has_sources, body))
    if body is None or isinstance(body, str | int | float):
        return False
    is_plain = isinstance(body, bytes | bytearray | memoryview | Path | File | BodySource)
    return is_plain or callable(getattr(body, "read", None)) or _has_type(body)


def _has_type(value: Any) -> bool:
    return value_type_of_class(type(value)) is not None


def _of_stream(stream: Any) -> BodySource:
    if isinstance(stream, io.TextIOBase):
        raise TypeError("a file that is sent must be opened in binary mode: open(path, 'rb')")
    name = getattr(stream, "name", None)
    named = Path(name).name if isinstance(name, str) and name and name[0] != "<" else None
    guessed = mimetypes.guess_type(named or "")[0] or OCTETS
    try:
        start = stream.tell()
        size = stream.seek(0, os.SEEK_END) - start
        stream.seek(start)
    except (OSError, AttributeError, io.UnsupportedOperation):  # a pipe
        return BodySource(media_type=guessed, name=named, stream=stream, start=None)
    return BodySource(media_type=guessed, name=named, size=size, stream=stream, start=start)
