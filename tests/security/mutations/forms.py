"""The form reader as a decoder: a form and its Content-Type go in, members or ValueError come out.

Each form is read twice, whole and in pieces: both must come to the same, and leave nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import skipper
from skipper.gateway.inputs import BodyHead, Inputs
from skipper.gateway.problems import Problem
from skipper.gateway.reception import SpoolRoom
from skipper.values.envelope import Envelope, as_envelope
from skipper.values.opening import INLINE_BYTES
from skipper.values.spool import Spool

KIND = b"multipart/form-data; boundary=XX"
MOST = 1 << 20
_EXPECTED = frozenset({400, 413, 415, 422, 431})


def _taking(image: bytes, label: str = "", tags: list[str] | None = None, n: int = 0) -> None: ...


_taking.__module__ = "functions.f"
_SPEC = skipper.data(_taking).spec("c0de")


def _part(disposition: bytes, data: bytes, more: bytes = b"") -> bytes:
    return b"--XX\r\nContent-Disposition: form-data; " + disposition + more + b"\r\n\r\n" + data


def _form(*parts: bytes, kind: bytes = KIND) -> bytes:
    return kind + b"\n" + b"\r\n".join(parts) + b"\r\n--XX--\r\n"


_FILE = b'name="image"; filename="a b%22.png"'
_PNG = b"\r\nContent-Type: image/png"
SAMPLES = [
    _form(_part(_FILE, b"\x89PNG\r\n--X\r\n-", _PNG), _part(b'name="label"', "Größe".encode())),
    _form(_part(b'name="n"', b"5"), _part(b'name="tags"', b"x"), _part(b'name="tags"', b"y")),
    _form(
        _part(b'name="tags"', b'["a"]', b"\r\nContent-Type: application/json"), _part(_FILE, b"")
    ),
    _form(_part(_FILE, bytes(range(256)) * (INLINE_BYTES // 256 + 1), _PNG)),
    _form(
        b'--a"b\r\ncontent-disposition: form-data; name=image\r\n\r\nx\r\n--a"b--',
        kind=b'multipart/form-data; boundary="a\\"b"',
    ),
    b"image/png; q=1\n\x89PNG",
]


class _Desk:
    """A reader of forms, with a spool of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="skipper-forms-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.room = SpoolRoom(4 * MOST)
        self.spool = Spool(self.folder, on_removed=self.room.forget)
        self.inputs = Inputs(spool=self.spool, room=self.room, most=MOST)
        self.loop = asyncio.new_event_loop()
        atexit.register(self.loop.close)

    def read(self, kind: str, data: bytes, size: int) -> Any:
        """What a form comes to: its members and parts, or the status of its refusal."""
        found = self.loop.run_until_complete(self._read(kind, data, size))
        left = [path.name for path in self.folder.iterdir()]
        if left or self.room.taken:
            raise RuntimeError(f"left behind: {left}, {self.room.taken} bytes of room")
        return found

    async def _read(self, kind: str, data: bytes, size: int) -> Any:
        try:
            body = await self.inputs.received(_SPEC, BodyHead(kind), _Pieces(data, size))
        except Problem as problem:
            if problem.kind.status not in _EXPECTED:
                raise
            return problem.kind.status
        envelope = as_envelope(body)
        try:
            return envelope.json, tuple(self._content(envelope))
        finally:
            self.spool.remove(envelope.spooled)

    def _content(self, envelope: Envelope) -> list[tuple[str | None, str, bytes]]:
        return [
            (
                part.name,
                part.media_type,
                bytes(part.data) if part.data is not None else self.spool.read(part.spool or ""),
            )
            for part in envelope.parts
        ]


class _Pieces:
    """A body that comes in pieces. No generator, since one that is left would have to be closed."""

    def __init__(self, data: bytes, size: int) -> None:
        self._left = (data[at : at + size] for at in range(0, len(data), size))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._left:
            return piece
        raise StopAsyncIteration


@functools.cache
def _desk() -> _Desk:
    return _Desk()


def read(case: bytes) -> object:
    """Members and parts. Raises ValueError for a refusal, RuntimeError for what must not be."""
    kind, _, data = case.partition(b"\n")
    text = kind.decode("latin-1")
    size = max(zlib.crc32(case) % 97 + 1, len(data) // 20)
    whole, pieced = (_desk().read(text, data, each) for each in (len(data) or 1, size))
    if whole != pieced:
        raise RuntimeError(f"whole {str(whole)[:100]}, in pieces of {size} {str(pieced)[:100]}")
    if isinstance(whole, int):
        raise ValueError(whole)
    return whole
