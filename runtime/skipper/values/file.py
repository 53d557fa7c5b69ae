"""Files as authors of functions see them."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path
from typing import Self

OCTETS = "application/octet-stream"


class File:
    """A file that a caller sent, or one to answer with: on the disk, never in memory as a whole.

    As a parameter it is there to be read for as long as the call lasts, under a path of the
    runtime's own; ``name`` is what its sender called it, which may be anything, and is empty where
    nobody said. To return one, make it of the path that it was written to: ``skipper.File(path)``.
    What is at that path then is stored, or sent, and the file itself is left where it is.

    ``media_type`` is, unless it is given, told from the name. Raises FileNotFoundError where
    ``path`` is no file.
    """

    def __init__(
        self, path: str | Path, *, name: str | None = None, media_type: str | None = None
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is no file")
        self.name = self.path.name if name is None else name
        self._content: object = None
        """What keeps the file there, of one that came."""
        self.media_type = media_type or mimetypes.guess_type(self.name)[0] or OCTETS

    @classmethod
    def received(cls, path: Path, name: str | None, media_type: str, content: object) -> Self:
        """One that came, which is there for as long as ``content`` is."""
        file = cls(path, name=name or "", media_type=media_type)
        file._content = content
        return file

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size

    @property
    def sha256(self) -> str:
        """Of its content, as 64 hexadecimal digits; it is read through for that."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def __repr__(self) -> str:
        return f"<skipper.File {self.name!r}, {self.media_type}, {self.size} bytes>"
