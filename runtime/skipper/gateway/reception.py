"""Where the bytes of a body go as they come: little of it is held, the rest lies in the spool."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from skipper import problems
from skipper.gateway.budget import SMALL
from skipper.gateway.problems import Problem
from skipper.values.envelope import Envelope, Part, as_body
from skipper.values.opening import INLINE_BYTES
from skipper.values.spool import Spool, SpooledFile

FIELD_BYTES = 1 << 20
"""Of all fields of a form that are text or JSON together, which are held."""
_AT_ONCE = 16 << 20
"""Of a body, what is written without a thread."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Piece = bytes | memoryview
Pieces = AsyncIterator[Piece]
"""Of a body; each is the taker's until the next comes."""


class BodyLimit(NamedTuple):
    """How many bytes a body may have, and what sets that."""

    size: int
    setting: str

    def check(self, size: int) -> None:
        """Raise Problem for more."""
        if size > self.size:
            most = f"{self.size / (1 << 20):g} MiB" if self.size >> 20 else f"{self.size} bytes"
            detail = f"at most {most} are accepted ({self.setting})"
            raise Problem(problems.TOO_LARGE, detail)


Reserve = Callable[[int], Awaitable[None]]


@dataclass(eq=False)
class SpoolRoom:
    """How many bytes this process may have in the spool at once, those of running calls too."""

    most: int
    taken: int = 0
    _files: dict[str, int] = field(default_factory=dict)
    """What lies there of bodies that have been received, until it is removed."""

    def take(self, size: int) -> None:
        """Raise Problem where there is no room for so many more."""
        if self.taken + size > self.most:
            detail = f"bodies take {self.taken / 1e9:.1f} GB already (files.quota_gb); try later"
            raise Problem(problems.NO_ROOM, detail)
        self.taken += size

    def give_back(self, size: int) -> None:
        self.taken -= size

    def hold(self, name: str, size: int) -> None:
        """So many bytes of what has been taken are a file's, until it is removed."""
        self._files[name] = size

    def forget(self, name: str) -> None:
        """A file has been removed."""
        self.give_back(self._files.pop(name, 0))


class SpoolDesk(Protocol):
    """What bodies are received into."""

    @property
    def spool(self) -> Spool:
        """Where what is large goes."""
        ...

    @property
    def room(self) -> SpoolRoom:
        """How much of it there is."""
        ...


class Reception:
    """What has been received of one request. All in the spool goes again, unless it is kept.

    ``reserve`` waits for room in this process's memory for so many bytes.
    """

    def __init__(
        self, desk: SpoolDesk, limit: BodyLimit, reserve: Reserve, *, is_hashed: bool = False
    ) -> None:
        self._desk, self._limit, self._reserve = desk, limit, reserve
        self._is_hashed = is_hashed
        self.parts: list[Part] = []
        self._size = self._texts = self._inline = 0
        self._has_room = self._is_kept = False
        self._sink: PartSink | None = None

    def __enter__(self) -> Reception:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sink is not None:
            self._sink.discard()
        room, spooled = self._desk.room, [part for part in self.parts if part.spool is not None]
        room.give_back(self._size - sum(part.size for part in spooled))
        for part in spooled:
            room.hold(part.spool or "", part.size)
        if not self._is_kept:
            self._desk.spool.remove([part.spool or "" for part in spooled])

    async def take(self, pieces: Pieces, write: Callable[[Piece], None]) -> None:
        """Have all that comes written. Raises Problem.

        In a thread where the disk may have to take part in it, or where it is hashed: the page
        cache has the first bytes of a file as soon as they are written.
        """
        async for piece in pieces:
            self._count(len(piece))
            if self._is_hashed or self._size > _AT_ONCE:
                await asyncio.to_thread(write, piece)
            else:
                write(piece)
            if self._texts + self._inline > SMALL and not self._has_room:
                self._has_room = True
                await self._reserve(FIELD_BYTES + INLINE_BYTES)

    def _count(self, size: int) -> None:
        """Raise Problem where the body is too large with so much more."""
        self._limit.check(self._size + size)
        self._desk.room.take(size)
        self._size += size

    def hold_text(self, what: str, size: int) -> None:
        """Count text, which is held. Raises Problem."""
        self._texts += size
        if self._texts > FIELD_BYTES:
            detail = f"{what} makes the form's text more than {FIELD_BYTES >> 20} MiB"
            raise Problem(problems.TOO_LARGE, f"{detail}; send it as a file, or all of it as JSON")

    def holds(self, size: int) -> bool:
        """Whether so many more bytes of parts are held; they are counted then."""
        if self._is_hashed or self._inline + size > INLINE_BYTES:
            return False
        self._inline += size
        return True

    def lets_go(self, size: int) -> None:
        """So many bytes of parts are held no more."""
        self._inline -= size

    def begin(self, what: str, *, is_text: bool = False) -> PartSink:
        """Where the next part goes; ``what`` names it in messages."""
        self._sink = PartSink(self, what, is_text)
        return self._sink

    def opened(self) -> SpooledFile:
        """A new file in the spool. Raises OSError."""
        return self._desk.spool.create(is_hashed=self._is_hashed)

    def part(self, media_type: str, name: str | None) -> Part:
        """What has gone into the present sink, as a part. Raises Problem."""
        assert self._sink is not None
        part = self._sink.part(f"#{len(self.parts)}", media_type, name)
        self.parts.append(part)
        return part

    def kept(self, envelope: Envelope) -> bytes:
        self._is_kept = True
        return as_body(envelope)


class PartSink:
    """Takes the bytes of one part: text and the first bytes here, more to the spool."""

    def __init__(self, reception: Reception, what: str, is_text: bool) -> None:
        self._reception, self._what, self._is_text = reception, what, is_text
        self._data = bytearray()
        self._file: SpooledFile | None = None

    def write(self, data: Piece) -> None:
        """Raises Problem where there is no room."""
        if self._is_text:
            self._reception.hold_text(self._what, len(data))
            self._data += data
        elif self._file is None and self._reception.holds(len(data)):
            self._data += data
        else:
            self._spooled(data)

    def _spooled(self, data: Piece) -> None:
        try:
            if self._file is None:
                self._file = self._reception.opened()
                self._file.write(self._data)
                self._reception.lets_go(len(self._data))
                self._data = bytearray()
            self._file.write(data)
        except OSError as error:
            self.discard()
            if error.errno not in _NO_ROOM:
                raise
            detail = f"{self._what} cannot be stored: {error.strerror}"
            raise Problem(problems.NO_ROOM, detail) from None

    def text(self) -> bytes:
        """What it has taken, of a part that is held."""
        return bytes(self._data)

    def part(self, key: str, media_type: str, name: str | None) -> Part:
        if self._file is None and not self._reception.holds(0):
            self._spooled(b"")  # a file is a file, be it empty
        if self._file is None:
            data = bytes(self._data)
            return Part(media_type=media_type, size=len(data), key=key, name=name, data=data)
        file, self._file = self._file, None
        with file:
            return Part(
                media_type=media_type,
                size=file.size,
                key=key,
                name=name,
                digest=file.digest,
                spool=file.kept(),
            )

    def discard(self) -> None:
        if self._file is not None:
            with self._file:
                self._file = None
