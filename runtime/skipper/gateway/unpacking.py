"""A tar of nobody that is known, read member by member: plain files alone, nothing of it held.

The library's own reader would hold a name of any length, follow sparse files and make links; what
is taken here is what :mod:`skipper.gateway.archive` writes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from skipper.errors import FormatError

MOST_NAME = 4096
"""Bytes of a member's name."""
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 256 << 10
_MOST_PADDING = tarfile.RECORDSIZE
"""Zeros after the end, which other programs write there."""
_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
}


class Member(NamedTuple):
    """One file of an archive; ``size`` is in bytes."""

    name: str
    size: int


class TarReader:
    """Reads the plain files of a tar, in order. All methods raise FormatError, OSError."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def next(self) -> Member | None:
        """The next file, whose content has to be read then; None at the end."""
        if (entry := self._entry()) is None:
            return None
        if entry.type != tarfile.GNUTYPE_LONGNAME:
            return _member(entry, entry.name)
        name = self._long_name(entry.size)
        if (entry := self._entry()) is None:
            raise FormatError("it ends after a name")
        return _member(entry, name)

    def content(self, member: Member) -> Iterator[bytes]:
        """What is in the file that :meth:`next` has just given, piece by piece."""
        left = member.size
        while left:
            piece = self._read(min(_CHUNK, left))
            left -= len(piece)
            yield piece
        self._read(-member.size % _BLOCK)

    def _entry(self) -> tarfile.TarInfo | None:
        block = self._read(_BLOCK)
        if not any(block):
            self._end()
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise FormatError(f"it is no tar, or damaged: {error}") from None

    def _long_name(self, size: int) -> str:
        if not 0 < size <= MOST_NAME:
            raise FormatError(f"a name in it has more than {MOST_NAME} bytes")
        name = self._read(size)
        self._read(-size % _BLOCK)
        try:
            return name.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise FormatError("a name in it is not UTF-8") from None

    def _end(self) -> None:
        rest = self._stream.read(_MOST_PADDING + 1)
        if any(rest) or not _BLOCK <= len(rest) <= _MOST_PADDING:
            raise FormatError("it does not end where its files do")

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        if len(data) < size:
            raise FormatError("it is cut off")
        return data


def _member(entry: tarfile.TarInfo, name: str) -> Member:
    if entry.type != tarfile.REGTYPE:
        kind = _KINDS.get(entry.type, "of a kind that is not written")
        raise FormatError(f"{name[:200]!r} in it is {kind}; it holds plain files alone")
    if entry.size < 0:
        raise FormatError(f"{name[:200]!r} in it has no size")
    return Member(name, entry.size)
