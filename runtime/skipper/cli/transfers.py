"""A file on its way, as it is shown: a bar at a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from skipper.cli.output import info
from skipper.client.connection import Saving
from skipper.client.messages import Outlet
from skipper.settings.environment import wants_animation

_EVERY_S = 5.0
"""How often a plain line tells how far it is."""

At = Callable[[int], None]
"""Takes how many bytes there are so far."""


@contextmanager
def transfer(what: str, size: int | None) -> Iterator[At]:
    """Show a transfer of so many bytes, where that is known, for as long as the block lasts."""
    if not wants_animation(sys.stderr.isatty()):
        yield _Lines(what, size).at
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    named = TextColumn("{task.description}", markup=False)
    with Progress(named, *columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=size)
        yield lambda count: progress.update(bar, completed=count)


class _Lines:
    """Prints where it stands, unless that was done, or the transfer begun, a moment ago."""

    def __init__(self, what: str, size: int | None) -> None:
        self._what, self._of = what, f" of {_mib(size)}" if size is not None else ""
        self._printed_at = time.monotonic()

    def at(self, count: int) -> None:
        if time.monotonic() - self._printed_at >= _EVERY_S:
            self._printed_at = time.monotonic()
            info(f"{self._what}: {_mib(count)}{self._of}")


class ShownFile(Outlet):
    """A file that an answer's content goes to, there once it is whole. It may be sent again."""

    def __init__(self, path: Path, at: At) -> None:
        self.is_begun = False
        self._path, self._at = path, at

    def __enter__(self) -> Self:
        self._saving, self._count = Saving(self._path), 0
        self._saving.__enter__()
        return self

    def write(self, data: bytes) -> None:
        """Write a part of the content, and show that."""
        self._saving.write(data)
        self._count += len(data)
        self._at(self._count)

    def __exit__(self, *raised: Any) -> None:
        self._saving.__exit__(*raised)


class ShownSource(io.RawIOBase):
    """A file that is sent; what has been read of it is shown."""

    def __init__(self, stream: BinaryIO, at: At) -> None:
        self._stream, self._at = stream, at

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._at(self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
