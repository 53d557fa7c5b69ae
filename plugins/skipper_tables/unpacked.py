"""How many bytes the parts of an Arrow stream take once they are unpacked, before they are.

A compressed buffer begins with its size when it is not (Arrow's columnar format, "Buffer
compression"), and Arrow sets aside as much as stands there. Python's Arrow does not show it, so it
is read off the message here: a flatbuffer, of which four fields matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_BATCH, _DICTIONARY = 3, 2
"""Message.fbs, MessageHeader."""


class _Table(NamedTuple):
    """A table of a flatbuffer: the bytes, and where in them it lies."""

    data: memoryview
    at: int

    def field(self, number: int) -> int:
        """Where a field lies; 0 for one that is left out."""
        vtable = self.at - _read("<i", self.data, self.at)
        if 4 + 2 * number >= _read("<H", self.data, vtable):
            return 0
        offset = _read("<H", self.data, vtable + 4 + 2 * number)
        return self.at + offset if offset else 0

    def table(self, number: int) -> _Table | None:
        found = self.field(number)
        return _Table(self.data, found + _read("<I", self.data, found)) if found else None

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """The members of a vector of two 64-bit numbers each."""
        if found := self.field(number):
            start = found + _read("<I", self.data, found)
            for index in range(_read("<I", self.data, start)):
                at = start + 4 + 16 * index
                yield _read("<q", self.data, at), _read("<q", self.data, at + 8)


def unpacked_size(metadata: memoryview, body: memoryview) -> int:
    """Bytes that a message's buffers take. Raises ValueError for what is no message."""
    try:
        message = _Table(metadata, _read("<I", metadata, 0))
        kind = message.field(1)
        batch = message.table(2)
        if kind and metadata[kind] == _DICTIONARY and batch is not None:
            batch = batch.table(1)
        elif not kind or metadata[kind] != _BATCH:
            return 0
        if batch is None:
            return 0
        is_packed = batch.table(3) is not None
        return sum(_size(body, at, size, is_packed) for at, size in batch.pairs(2))
    except (struct.error, IndexError) as error:
        raise ValueError(f"an Arrow message ends too early: {error}") from None


def _size(body: memoryview, at: int, size: int, is_packed: bool) -> int:
    if not is_packed or size < 8:
        return size
    unpacked = _read("<q", body, at)
    return size if unpacked == -1 else unpacked  # which says that this one is not compressed


def _read(format_: str, data: memoryview, at: int) -> int:
    if at < 0:
        raise IndexError(at)
    return int(struct.unpack_from(format_, data, at)[0])
