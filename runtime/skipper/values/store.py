"""Where values lie: whether one stands inline or in the blob store is decided here alone.

An inline value is part of the row that it belongs to. The store's are read and written in a thread,
because a disk or an object store may take its time.
"""

from __future__ import annotations

import asyncio
import errno
import logging

from skipper.blobs import BlobStore, DamagedError
from skipper.values.value import JSON, Value

log = logging.getLogger(__name__)

_LASTING = (FileNotFoundError, DamagedError, IsADirectoryError, PermissionError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class LostValueError(Exception):
    """A stored value that cannot be had. Its text follows "its input" or "the result".

    ``is_passing``: it may be had another time.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(_what_became_of_it(error))
        self.is_passing = not isinstance(error, _LASTING)


class ValueStore:
    """Values of up to ``inline_bytes`` stay inline, larger ones become blobs of ``blobs``.

    ``room_s`` is the pause between two attempts to write where the disk is full; ``loads`` is how
    many blobs are read at once, each of which is then held in whole.
    """

    def __init__(
        self, blobs: BlobStore, inline_bytes: int, *, room_s: float = 1.0, loads: int = 64
    ) -> None:
        self._blobs, self._inline_bytes, self._room_s = blobs, inline_bytes, room_s
        self._loading = asyncio.Semaphore(loads)

    def is_inline(self, data: bytes) -> bool:
        """Whether ``data`` is stored in the row that it belongs to."""
        return len(data) <= self._inline_bytes

    async def store(self, data: bytes, media_type: str = JSON) -> Value:
        """The value that ``data`` is, once it is sure to be found again. Raises OSError."""
        if self.is_inline(data):
            return Value(inline=data, media_type=media_type)
        ref = await asyncio.to_thread(self._blobs.put, data)
        return Value(ref=ref, size=len(data), media_type=media_type)

    async def store_when_there_is_room(self, data: bytes, media_type: str = JSON) -> Value:
        """:meth:`store`, tried again for as long as the disk is full. Raises OSError for all else.

        For a result: to run its function again would cost more than to wait.
        """
        while True:
            try:
                return await self.store(data, media_type)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                log.warning("a value waits until there is room for it: %s", error)
                await asyncio.sleep(self._room_s)

    async def load(self, value: Value) -> bytes:
        """Its bytes, as they were stored.

        Raises :class:`LostValueError` where they have expired, are damaged or cannot be read, once
        the log has been told.
        """
        if value.ref is None:
            assert value.inline is not None
            return value.inline
        try:
            async with self._loading:
                return await asyncio.to_thread(self._blobs.get, value.ref)
        except OSError as error:
            log.error("blob %s, a stored value, cannot be used: %s", value.ref, reason_of(error))
            raise LostValueError(error) from None


def reason_of(error: OSError) -> str:
    """What went wrong, for callers, who are not to learn where values lie."""
    return error.strerror or type(error).__name__


def _what_became_of_it(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is no longer stored"
    if isinstance(error, DamagedError):
        return "is damaged: what is stored is not what was written"
    return f"cannot be read: {reason_of(error)}"
