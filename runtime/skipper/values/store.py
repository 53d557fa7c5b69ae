"""Where values lie: whether one stands inline or in the blob store is decided here alone.

An inline value is part of the row that it belongs to. The store's are read and written in a thread,
because a disk or an object store may take its time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from skipper.blobs import BlobStore, DamagedError
from skipper.values.envelope import MEDIA_TYPE, Part, as_body, is_envelope, unpack
from skipper.values.opening import NO_PLACES
from skipper.values.spool import Spool
from skipper.values.value import Value

log = logging.getLogger(__name__)
T = TypeVar("T")

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

    What lies in ``spool`` of an envelope becomes blobs in any case. ``room_s`` is the pause between
    two attempts to write where the disk is full; ``loads`` is how many blobs are read at once, each
    of which is then held in whole.
    """

    def __init__(
        self,
        blobs: BlobStore,
        inline_bytes: int,
        spool: Spool = NO_PLACES.spool,
        *,
        room_s: float = 1.0,
        loads: int = 64,
    ) -> None:
        self.blobs, self.spool = blobs, spool
        self._inline_bytes, self._room_s = inline_bytes, room_s
        self._loading = asyncio.Semaphore(loads)

    def is_inline(self, body: bytes) -> bool:
        """Whether ``body`` is stored in the row that it belongs to, all of it."""
        if is_envelope(body) and unpack(body).spooled:
            return False
        return len(body) <= self._inline_bytes

    async def settle(self, body: bytes) -> bytes:
        """``body``, of which nothing is in the spool any more: it lies in the store for good.

        Raises OSError.
        """
        if not is_envelope(body) or not (envelope := unpack(body)).spooled:
            return body
        parts = list(envelope.parts)
        await asyncio.to_thread(self._settle, parts)
        return as_body(replace(envelope, parts=tuple(parts)))

    def _settle(self, parts: list[Part]) -> None:
        """Put those of these that lie in the spool into the store, one by one."""
        for place, part in enumerate(parts):
            if part.spool is not None:
                parts[place] = self._adopted(part, part.spool)

    def _adopted(self, part: Part, name: str) -> Part:
        ref = self.blobs.adopt(self.spool.path(name), part.digest)
        return replace(part, spool=None, digest=None, ref=ref)

    async def store(self, body: bytes) -> Value:
        """The value that ``body`` is, once it is sure to be found again. Raises OSError."""
        if not is_envelope(body):
            return await self._stored(body, Value(inline=body))
        settled = await self.settle(body)
        envelope = unpack(settled)
        value = Value(
            inline=settled,
            size=envelope.size,
            media_type=MEDIA_TYPE,
            refs=tuple(envelope.refs),
        )
        return await self._stored(settled, value)

    async def _stored(self, body: bytes, value: Value) -> Value:
        if len(body) <= self._inline_bytes:
            return value
        ref = await asyncio.to_thread(self.blobs.put, body)
        return replace(value, inline=None, ref=ref, size=value.size or len(body))

    async def store_when_there_is_room(self, body: bytes) -> Value:
        """:meth:`store`, tried again for as long as the disk is full. Raises OSError for all else.

        For a result: to run its function again would cost more than to wait.
        """
        if is_envelope(body) and (envelope := unpack(body)).spooled:
            # One list for all attempts, because what has been adopted is in the spool no more.
            parts = list(envelope.parts)
            await self._when_there_is_room(lambda: asyncio.to_thread(self._settle, parts))
            body = as_body(replace(envelope, parts=tuple(parts)))
        return await self._when_there_is_room(lambda: self.store(body))

    async def _when_there_is_room(self, write: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await write()
            except OSError as error:
                if not is_for_want_of_room(error):
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
                return await asyncio.to_thread(self.blobs.get, value.ref)
        except OSError as error:
            log.error("blob %s, a stored value, cannot be used: %s", value.ref, reason_of(error))
            raise LostValueError(error) from None


def is_for_want_of_room(error: OSError) -> bool:
    """Whether the disk is full, or the quota of this account."""
    return error.errno in _NO_ROOM


def reason_of(error: OSError) -> str:
    """What went wrong, for callers, who are not to learn where values lie."""
    return error.strerror or type(error).__name__


def _what_became_of_it(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is no longer stored"
    if isinstance(error, DamagedError):
        return "is damaged: what is stored is not what was written"
    return f"cannot be read: {reason_of(error)}"
