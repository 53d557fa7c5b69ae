"""Where lines go: a terminal that may read slowly or not at all, and files of bounded size.

The launcher writes the tree's log with it, gateways the audit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

LOG_FILE = "skipper.jsonl"
FILES = 4
"""The current file and its predecessors, ``skipper.jsonl.1`` being the youngest of those."""


class LogSink:
    """Writes on a thread of its own. ``put`` never waits: beyond ``limit`` bytes it drops the line.

    ``dropped`` makes the line with the number of those that are missing.
    """

    def __init__(
        self, write: Callable[[bytes], None], *, limit: int, dropped: Callable[[int], bytes]
    ) -> None:
        self._write, self._limit, self._dropped = write, limit, dropped
        self._waiting: deque[bytes] = deque()
        self._size = self._lost = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        with self._changed:
            if self._size + len(line) > self._limit:
                self._lost += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """Write what waits, for ``timeout_s`` at most; False where the writer is stuck."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._write(batch)
            except OSError:  # nobody reads any more, or the disk is full: the tree goes on
                time.sleep(0.1)

    def _take(self) -> bytes:
        with self._changed:
            while not self._waiting and not self._lost and not self._closing:
                self._changed.wait()
            batch = b"".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            if self._lost:
                batch += self._dropped(self._lost)
                self._lost = 0
            return batch


def to_descriptor(fd: int) -> Callable[[bytes], None]:
    """Write everything to ``fd``, also where somebody has made it non-blocking."""

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                select.select((), (fd,), ())

    return write


class RotatingFile:
    """A file ``name`` in ``folder`` and its predecessors, together at most ``total`` bytes long."""

    def __init__(self, folder: Path, total: int, name: str = LOG_FILE) -> None:
        self._path = folder / name
        self.share = total // FILES
        self._fd = _open(self._path)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self.share:
            self._rotate()
        self._size += len(data)
        to_descriptor(self._fd)(data)

    def close(self) -> None:
        os.close(self._fd)

    def _rotate(self) -> None:
        for number in range(FILES - 1, 0, -1):
            older = _numbered(self._path, number)
            younger = _numbered(self._path, number - 1)
            if younger.exists():
                younger.replace(older)
        fresh = _open(self._path)
        os.close(self._fd)
        self._fd, self._size = fresh, 0


class SharedFile(RotatingFile):
    """A rotating file that several processes write: each batch whole, and one rotates at a time."""

    def write(self, data: bytes) -> None:
        while not self._is_written(data):
            pass  # the fresh file is everybody's as soon as it is there, so it is locked anew

    def _is_written(self, data: bytes) -> bool:
        """Write, or rotate where that has to come first."""
        with self._locked():
            size = os.fstat(self._fd).st_size
            if size and size + len(data) > self.share:
                self._rotate()
                return False
            to_descriptor(self._fd)(data)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the current file, which may have been replaced while it was waited for."""
        while True:
            fd = self._fd
            fcntl.flock(fd, fcntl.LOCK_EX)
            if self._is_current():
                break
            self._fd = _open(self._path)
            os.close(fd)
        try:
            yield
        finally:
            if self._fd == fd:  # else it was rotated, and closed
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _is_current(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(self._path.stat(), os.fstat(self._fd))
        return False


def log_files(folder: Path, name: str = LOG_FILE) -> list[Path]:
    """The files of that name in ``folder`` that exist, the oldest first."""
    paths = [_numbered(folder / name, number) for number in range(FILES - 1, -1, -1)]
    return [path for path in paths if path.exists()]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
