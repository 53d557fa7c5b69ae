"""Stored models laid out as files: one read-only folder of each for all instances of a machine.

So what they map of it, as NumPy and safetensors do, is in memory once. Whoever uses a folder holds
a shared lock on it, which the kernel takes from whoever dies; one that nobody has locked is swept.
It is a copy: were it a link to the store, a function that writes where it may not would change what
is stored.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

from skipper.blobs import BlobStore, StoredFolder
from skipper.failpoints import failpoint

log = logging.getLogger(__name__)

_PARTIAL, _GONE = ".partial", "gone-"
_MADE_NS = 315_619_200 * 10**9
"""When each file says that it was changed last: any later time is that of a change."""


class HeldFolder:
    """A model's folder. It stays for as long as anybody holds this."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        weakref.finalize(self, os.close, lock)


class ModelFolders:
    """The folders of stored models below ``folder``, by their digests."""

    def __init__(self, store: BlobStore, folder: Path) -> None:
        self._store, self._folder = store, folder

    def hold(self, digest: str, stored: StoredFolder) -> HeldFolder:
        """The folder of what is ``stored`` under this digest; whoever needs it first makes it.

        Raises as :meth:`BlobStore.get_folder`.
        """
        while True:
            held = self._held(digest, stored) or self._made(digest)
            if held is not None:
                return held

    def _held(self, digest: str, stored: StoredFolder) -> HeldFolder | None:
        path = self._folder / digest
        if (lock := _locked(path, fcntl.LOCK_SH)) is None:
            return None
        held = HeldFolder(path, lock)
        if _is_unchanged(path, stored):
            return held
        log.warning("the files of a model in %s have been changed; they are laid out anew", path)
        with contextlib.suppress(FileNotFoundError):  # another process has done so
            _aside(path)
        return None

    def _made(self, digest: str) -> HeldFolder | None:
        """Lay it out, unless another process does; None where that has been waited for."""
        # Locked is what it is made in: whoever waits for that must not wait for those who serve it.
        workshop = self._folder / f"{digest}{_PARTIAL}"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            workshop.mkdir(mode=0o700)
        if (lock := _locked(workshop, fcntl.LOCK_EX)) is None:
            return None
        try:
            _clear(workshop)  # of what one that was killed has left
            if (self._folder / digest).exists():
                return None
            return self._laid_out(digest, workshop / digest)
        finally:
            _remove(workshop)
            os.close(lock)

    def _laid_out(self, digest: str, partial: Path) -> HeldFolder:
        partial.mkdir(mode=0o700)
        self._store.get_folder(digest, partial)
        _protect(partial)
        lock = _locked(partial, fcntl.LOCK_SH)
        assert lock is not None
        held = HeldFolder(self._folder / digest, lock)
        failpoint("models.laid_out")
        partial.rename(held.path)
        held.path.chmod(0o500)  # only now, because one that may not be written to cannot be moved
        return held


def sweep(folder: Path) -> None:
    """Remove what no process holds: nobody serves it, or it was begun by one that was killed.

    One that is wanted at this moment is made again.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        try:
            if (lock := _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)) is not None:
                try:
                    _remove(_aside(path))
                finally:
                    os.close(lock)
        except OSError as error:
            log.warning("%s could not be removed: %s", path, error.strerror)


def _aside(path: Path) -> Path:
    """Move a folder to where nobody looks for it, but the next sweep."""
    return path.rename(path.parent / f"{_GONE}{secrets.token_hex(8)}")


def _locked(path: Path, how: int) -> int | None:
    """A descriptor with a lock on what is there; None where it is gone, or another has it."""
    with contextlib.suppress(FileNotFoundError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, how)
            if os.path.samestat(os.fstat(lock), path.stat()):  # else it has been moved meanwhile
                return lock
        except BlockingIOError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
    return None


def _is_unchanged(folder: Path, stored: StoredFolder) -> bool:
    with contextlib.suppress(FileNotFoundError):
        found = {name: (folder / name).stat() for name in stored.files}
        return all(
            each.st_mtime_ns == _MADE_NS and each.st_size == stored.sizes.get(name, each.st_size)
            for name, each in found.items()
        )
    return False


def _protect(folder: Path) -> None:
    """Have nobody write to what is in a folder; not the folder itself."""
    for path in _below(folder):
        if not path.is_dir():
            os.utime(path, ns=(_MADE_NS, _MADE_NS))
            path.chmod(0o400)
        elif path != folder:
            path.chmod(0o500)


def _clear(folder: Path) -> None:
    _open_up(folder)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove(folder: Path) -> None:
    _open_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    for path in _below(folder):
        if path.is_dir():
            path.chmod(0o700)


def _below(folder: Path) -> Iterator[Path]:
    """A folder, then all that is in it, links left out; none where it is not there."""
    for name, _, files in os.walk(folder):
        yield Path(name)
        yield from (Path(name, file) for file in files if not Path(name, file).is_symlink())
