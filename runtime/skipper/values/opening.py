"""The parts of a body, opened for who reads values from them; and those of a value, collected."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from skipper.blobs import BlobStore
from skipper.values.envelope import Envelope, Part
from skipper.values.file import OCTETS
from skipper.values.spool import Spool
from skipper.values.types import Content, Written

INLINE_BYTES = 128 << 10
"""Parts of up to so many bytes travel with their call; larger ones lie in the spool meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the parts of values lie that are not inline."""

    spool: Spool
    blobs: BlobStore | None = None


class OpenParts:
    """What a body refers to, by key: the context in which it is validated.

    Where it ``is_owner``, what lies in the spool goes with it, once nothing that was opened is used
    any more; what had to be written there to have a path does so in any case.
    """

    def __init__(self, parts: Iterable[Part], places: Places, *, is_owner: bool = False) -> None:
        self._parts = {part.key: part for part in parts}
        self._places = places
        self._made: list[str] | None = None
        if is_owner:
            self._goes(part.spool for part in self._parts.values() if part.spool is not None)

    def _goes(self, names: Iterable[str]) -> None:
        """Have these files in the spool go with it."""
        if self._made is None:
            self._made = []
            # No __del__ and no with block, because values that were read may refer to the files.
            self._end = weakref.finalize(self, self._places.spool.remove, self._made)
        self._made += names

    def close(self) -> None:
        """Remove now what would go with it: its call is over."""
        if self._made is not None:
            self._end()

    def open(self, key: str) -> Content:
        """The part with this key. Raises ValueError where there is none."""
        if (part := self._parts.get(key)) is None:
            raise ValueError(f"there is no file {key!r}, or it has expired")
        return PartContent(part, self)

    @property
    def sole(self) -> Content:
        """The only part, of a value that has no JSON."""
        (part,) = self._parts.values()
        return PartContent(part, self)

    def hold(self, data: bytes) -> Content:
        """Bytes that stood in the JSON itself."""
        return PartContent(Part(media_type=OCTETS, size=len(data), data=data), self)

    def view(self, part: Part) -> memoryview:
        """The part's bytes. Raises ValueError where they are gone."""
        if part.data is not None:
            return memoryview(part.data)
        try:
            if part.spool is not None:
                return self._places.spool.view(part.spool)
            return memoryview(self._blobs.view(part.ref or ""))
        except OSError as error:
            raise _lost(part, error) from None

    def read(self, part: Part) -> bytes:
        """A copy of the part's bytes. Raises ValueError where they are gone."""
        if part.spool is None:
            return bytes(self.view(part))
        try:
            return self._places.spool.read(part.spool)
        except OSError as error:
            raise _lost(part, error) from None

    def path(self, part: Part) -> Path:
        """A file that has the part's bytes. Raises ValueError where they are gone."""
        spool = self._places.spool
        try:
            if part.spool is not None:
                return spool.path(part.spool)
            if part.ref is not None and (path := self._blobs.path(part.ref)) is not None:
                return path
            name = spool.put(self.view(part))
        except OSError as error:
            raise _lost(part, error) from None
        self._goes([name])
        return spool.path(name)

    @property
    def _blobs(self) -> BlobStore:
        if self._places.blobs is None:
            raise ValueError("a stored value cannot be read here")
        return self._places.blobs


class PartContent(Content):
    """The bytes of one part."""

    def __init__(self, part: Part, parts: OpenParts) -> None:
        self._part, self._parts = part, parts
        self.media_type, self.size, self.name = part.media_type, part.size, part.name

    def view(self) -> memoryview:
        return self._parts.view(self._part)

    def read(self) -> bytes:
        return self._parts.read(self._part)

    def path(self) -> Path:
        return self._parts.path(self._part)


class CollectedParts:
    """The parts of a value that is written: the context in which its JSON is dumped.

    What is large goes to the spool at once; of what raises nothing stays there.
    """

    def __init__(self, spool: Spool, inline_bytes: int = INLINE_BYTES) -> None:
        self._spool, self._inline_bytes = spool, inline_bytes
        self.parts: list[Part] = []

    def collect(self, written: Written) -> str:
        """The key of this part. Raises OSError."""
        key = f"#{len(self.parts)}"
        self.parts.append(self.part(written, key))
        return key

    def part(self, written: Written, key: str = "") -> Part:
        """What ``written`` is as a part. Raises OSError."""
        common = {"media_type": written.media_type, "name": written.name, "key": key}
        if written.path is not None and written.path.stat().st_size <= self._inline_bytes:
            data = written.path.read_bytes()
            return Part(size=len(data), data=data, **common)  # type: ignore[arg-type] # its texts
        if written.path is None:
            size = sum(memoryview(each).nbytes for each in written.buffers)
            if size <= self._inline_bytes:
                return Part(size=size, data=b"".join(written.buffers), **common)  # type: ignore[arg-type] # its texts
        with self._spool.create() as file:
            if written.path is not None:
                file.copy(written.path)
            for buffer in written.buffers:
                file.write(buffer)
            return Part(size=file.size, spool=file.kept(), **common)  # type: ignore[arg-type] # its texts

    def discard(self) -> None:
        """Remove what has been written to the spool."""
        self._spool.remove(Envelope(parts=tuple(self.parts)).spooled)


def _lost(part: Part, error: OSError) -> ValueError:
    name = part.name or part.key or "a value"
    return ValueError(f"the content of {name!r} is gone: {error.strerror or type(error).__name__}")


_OURS = Path(tempfile.gettempdir(), f"skipper-spool-{os.getuid()}")
NO_PLACES = Places(spool=Spool(_OURS, is_among_others=True))
"""Where nobody has said where values go."""
NO_PARTS = OpenParts((), NO_PLACES)
"""Of a body without any."""
