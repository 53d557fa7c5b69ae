"""The body of a request, as it is received and until somebody takes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from skipper import problems
from skipper.gateway.http.head import Head, RefusedError, check_size
from skipper.gateway.http.landing import Landing
from skipper.gateway.http.limits import BODY_AHEAD

_LINE_END = b"\r\n"
_LINE_BYTES = 1 << 10
"""The longest line between two chunks."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class Framing(Protocol):
    """Tells which bytes are a body's."""

    is_whole: bool

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """What ``data`` has of the body, and where in it that ends. Raises RefusedError."""
        ...


class Counted:
    """A body of a length that its head tells."""

    __slots__ = ("is_whole", "left")

    def __init__(self, length: int) -> None:
        self.left, self.is_whole = length, length == 0

    def feed(self, data: bytes) -> tuple[bytes, int]:
        end = min(self.left, len(data))
        self.count(end)
        return data[:end], end

    def count(self, size: int) -> None:
        """So much of it has come."""
        self.left -= size
        self.is_whole = self.left == 0


class Chunked:
    """A body in chunks; their extensions and the trailers are checked and thrown away.

    They count to what a head may have, of which ``size`` bytes and ``lines`` are used up.
    """

    __slots__ = ("_left", "_line", "_lines", "_next", "_size", "is_whole")

    def __init__(self, size: int = 0, lines: int = 0) -> None:
        self.is_whole = False
        self._size, self._lines = size, lines
        self._left = 0
        """Bytes of the present chunk that are yet to come."""
        self._line = b""
        """The beginning of a line that is yet to end."""
        self._next: Callable[[Chunked, bytes], None] = Chunked._begin_chunk
        """What the next line is for. No bound method, which would be a cycle."""

    def feed(self, data: bytes) -> tuple[bytes, int]:
        at, pieces = 0, []
        while at < len(data) and not self.is_whole:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                at = self._read_line(data, at)
        return b"".join(pieces), at

    def _read_line(self, data: bytes, start: int) -> int:
        found = data.find(b"\n", start)
        end = len(data) if found < 0 else found + 1
        self._line += data[start : min(end, start + _LINE_BYTES + 1)]
        if len(self._line) > _LINE_BYTES:
            raise RefusedError(problems.HEAD_TOO_LARGE, "a line between two chunks is too long")
        if found >= 0:
            line, self._line = self._line, b""
            if not line.endswith(_LINE_END):
                raise _bad("lines between chunks end with CR LF")
            self._next(self, line[:-2])
        return end

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise _bad("the size of a chunk is no hexadecimal number")
        self._count(len(match[2] or b""), 0)
        self._left = int(match[1], 16)
        self._next = Chunked._end_chunk if self._left else Chunked._read_trailer

    def _end_chunk(self, line: bytes) -> None:
        if line:
            raise _bad("a chunk is longer than its size")
        self._next = Chunked._begin_chunk

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self.is_whole = True
        elif not _TRAILER.fullmatch(line):
            raise _bad("what follows the last chunk is no header")
        else:
            self._count(len(line) + 2, 1)

    def _count(self, size: int, lines: int) -> None:
        self._size += size
        self._lines += lines
        check_size(self._size, self._lines)


class Body:
    """What has been received of a body and not been taken yet.

    Who wants more of it than :data:`~skipper.gateway.http.limits.BODY_AHEAD` at once raises
    ``limit``: the connection is not read on while so much lies here.
    """

    __slots__ = ("_first", "_framing", "_landing", "_more", "_taken", "is_unwanted", "limit")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._first = b""
        self._taken = 0
        self._more = bytearray()  # and no list, because a caller may send it byte by byte
        self._landing: Landing | None = None
        """Where what is yet to come goes, once somebody has asked for that."""
        self.limit = BODY_AHEAD
        self.is_unwanted = False
        """Whether what comes is thrown away."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it has been received."""
        return self._framing.is_whole

    @property
    def size(self) -> int:
        """How many bytes lie here."""
        landed = self._landing.size if self._landing is not None else 0
        return len(self._first) + len(self._more) + landed

    @property
    def received(self) -> int:
        """How many bytes have come so far."""
        return self._taken + self.size

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be received for now."""
        if self._landing is not None:
            return not self._landing.room
        return self.size >= self.limit

    @property
    def is_large(self) -> bool:
        """Whether more of it may come than is received before somebody asks for it."""
        return not self.is_whole and (self.rest is None or self.size + self.rest > BODY_AHEAD)

    @property
    def rest(self) -> int | None:
        """How many bytes are yet to come; None where nobody knows."""
        return self._framing.left if isinstance(self._framing, Counted) else None

    def feed(self, data: bytes) -> int:
        """Receive ``data``; where in it the body ends. Raises RefusedError."""
        content, end = self._framing.feed(data)
        if not self.is_unwanted:
            if self._first:
                self._more += content
            else:
                self._first = content
        return end

    def take(self) -> bytes:
        """What lies here, which then is the caller's."""
        found = self._first + self._more if self._more else self._first
        self._taken += len(found)
        self._first, self._more = b"", bytearray()
        return found

    def throw_away(self) -> None:
        """Nobody wants it, nor what is yet to come."""
        self.take()
        self.is_unwanted = True
        if self._landing is not None:
            self._landing.give_back(self._landing.size)

    # --- what is received straight into a buffer

    def land(self) -> bool:
        """Have what is yet to come received straight into a buffer; False where it cannot be."""
        if self._landing is None and isinstance(self._framing, Counted) and self.is_large:
            self._landing = Landing()
        return self._landing is not None

    @property
    def is_landing(self) -> bool:
        """Whether what comes goes into a buffer."""
        return self._landing is not None and not self.is_whole

    def space(self) -> memoryview:
        """Where what comes next of it goes, and nothing that follows it."""
        assert self._landing is not None
        return self._landing.space(self.rest or 0)

    def landed(self, size: int) -> None:
        """So much of it has come into the space."""
        assert self._landing is not None
        assert isinstance(self._framing, Counted)
        self._framing.count(size)
        if not self.is_unwanted:
            self._landing.filled(size)

    def lend(self) -> bytes | memoryview:
        """What lies here; it stays as it is until it is given back."""
        if self._landing is None or self._first:
            return self.take()
        return self._landing.lend()

    def give_back(self, lent: bytes | memoryview) -> None:
        """What was lent is needed no more."""
        if self._landing is not None and isinstance(lent, memoryview) and not self.is_unwanted:
            self._taken += len(lent)
            self._landing.give_back(len(lent))
            if self.is_whole and not self.size:
                self._landing.end()
                self._landing = None


def body_of(head: Head) -> Body:
    """The body that follows ``head``."""
    return Body(Chunked(head.size, head.lines) if head.is_chunked else Counted(head.length))


def _bad(detail: str) -> RefusedError:
    return RefusedError(problems.BAD_REQUEST, detail)
