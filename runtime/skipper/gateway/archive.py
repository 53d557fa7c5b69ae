"""A stored folder as one archive, made while its caller reads it: nothing of it is held."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skipper.blobs import BlobStore, StoredFile
from skipper.gateway.contents import lost
from skipper.values.store import reason_of

log = logging.getLogger(__name__)

TAR = "application/x-tar"
_CHUNK = 64 << 10
_END = bytes(2 * tarfile.BLOCKSIZE)


class ArchiveResponse(Response):
    """Sends files of the store as a tar. What shows to be damaged or gone is broken off."""

    def __init__(
        self, files: Sequence[StoredFile], blobs: BlobStore, *, tag: str, name: str
    ) -> None:
        self._heads = [_head(file) for file in files]
        self._files, self._blobs = files, blobs
        size = sum(map(len, self._heads)) + sum(_padded(file.size) for file in files) + len(_END)
        headers = {
            "Content-Type": TAR,
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{name}"',
            "ETag": f'"{tag}"',
        }
        super().__init__(None, 200, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
        else:
            pieces = self._pieces()
            first = await anext(pieces)
            await send(start)
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[bytes]:
        for head, file in zip(self._heads, self._files, strict=True):
            with await asyncio.to_thread(self._opened, file) as stream:
                yield head
                digest, left = hashlib.sha256(), file.size
                while left:
                    piece = await asyncio.to_thread(stream.read, min(_CHUNK, left))
                    if not piece:
                        raise lost("is damaged: it is shorter than it was")
                    digest.update(piece)
                    left -= len(piece)
                    yield piece
                if digest.hexdigest() != file.digest:
                    log.error("blob %s cannot be used: damaged", file.digest)
                    raise lost("is damaged: what is stored is not what was written")
            yield bytes(_padded(file.size) - file.size)
        yield _END

    def _opened(self, file: StoredFile) -> BinaryIO:
        try:
            return cast(BinaryIO, self._blobs.open(file.digest))
        except OSError as error:
            raise lost(f"is no longer stored: {reason_of(error)}") from None


def _head(file: StoredFile) -> bytes:
    entry = tarfile.TarInfo(file.path)
    entry.size, entry.mode = file.size, 0o600
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
