"""A large body on its way from the socket to the disk: received straight into a buffer.

What comes in pieces of its own is copied twice before anybody sees it: once into the piece, and
once more where several lie together. Here it is copied by the kernel alone, into memory that the
next body uses again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skipper.gateway.http.limits import PIECES

_IDLE: list[bytearray] = []
"""Buffers that no body uses: memory that is used again need not be mapped and cleared again."""
_MOST_IDLE = 16


class Landing:
    """A buffer of :data:`~skipper.gateway.http.limits.PIECES` bytes between the socket and who
    takes what is in it.

    What is taken is lent: it stays as it is until :meth:`give_back`.
    """

    __slots__ = ("_buffer", "_end", "_start", "_view")

    def __init__(self) -> None:
        self._buffer = _IDLE.pop() if _IDLE else bytearray(PIECES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    @property
    def size(self) -> int:
        """How many bytes lie here that have not been given back."""
        return self._end - self._start

    @property
    def room(self) -> int:
        """How many more can be received."""
        return len(self._view) - self._end

    def space(self, most: int) -> memoryview:
        """Where what comes next goes, which is no more than ``most`` bytes."""
        return self._view[self._end : self._end + most]

    def filled(self, size: int) -> None:
        """So many bytes more have come into the space."""
        self._end += size

    def lend(self) -> memoryview:
        """All that lies here."""
        return self._view[self._start : self._end]

    def give_back(self, size: int) -> None:
        """So many of the bytes that were lent are needed no more."""
        self._start += size
        if self._start == self._end:
            self._start = self._end = 0

    def end(self) -> None:
        """Nothing that was lent is used any more: the next body may have the buffer."""
        if len(_IDLE) < _MOST_IDLE:
            _IDLE.append(self._buffer)


class LandingProtocol(asyncio.BufferedProtocol):
    """What a connection is to its transport while a body lands.

    ``space`` tells where what comes goes, ``landed`` is told how much came; ``line`` is the
    connection itself, for everything else.
    """

    def __init__(
        self,
        line: asyncio.Protocol,
        space: Callable[[], memoryview],
        landed: Callable[[int], None],
    ) -> None:
        self._line, self._space, self._landed = line, space, landed

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._space()

    def buffer_updated(self, nbytes: int) -> None:
        self._landed(nbytes)

    def pause_writing(self) -> None:
        self._line.pause_writing()

    def resume_writing(self) -> None:
        self._line.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.connection_lost(exc)
