"""Files and folders as models: copied at saving, and paths once they are loaded."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

from skipper.errors import FormatError

FILE, FOLDER = "file", "folder"
"""The names of the two formats."""


def save(path: Path, folder: Path) -> str:
    """Copy a file, or all that a folder holds, into the empty ``folder``; the format's name.

    A link within is stored as what it leads to. Raises FormatError for one that leads out of it,
    for what is no file at all, and where nothing is there; OSError where it cannot be read.
    """
    if not path.exists():
        raise FormatError(f"{path} is not there any more: return the path of what stays")
    root = path.resolve()
    if root.is_dir():
        if not _copy(root, root, folder):
            raise FormatError(f"{path} holds no file, so there is nothing to store")
        return FOLDER
    _check_regular(root, path.name)
    _copy_file(root, folder / path.name)
    return FILE


def _copy(root: Path, source: Path, target: Path) -> int:
    """Copy what ``source``, a folder within ``root``, holds; how many files that were."""
    copied = 0
    for entry in sorted(source.iterdir()):
        found, name = entry.resolve(), entry.relative_to(root).as_posix()
        if entry.is_symlink():
            _check_link(root, found, name)
        if found.is_dir():
            (target / entry.name).mkdir()
            copied += _copy(root, found, target / entry.name)
        else:
            _check_regular(found, name)
            _copy_file(found, target / entry.name)
            copied += 1
    return copied


def _check_link(root: Path, found: Path, name: str) -> None:
    if not found.is_relative_to(root):
        raise FormatError(
            f"{name} is a link that leads out of the folder: put a copy there (cp -L), since what "
            "lies elsewhere is not stored with it"
        )
    if found.is_dir():
        raise FormatError(f"{name} is a link to a folder: put a copy of that there (cp -rL)")


def _check_regular(file: Path, name: str) -> None:
    if not file.exists():
        raise FormatError(f"{name} is a link that leads nowhere: remove it")
    if not stat.S_ISREG(file.stat().st_mode):
        raise FormatError(f"{name} is neither a file nor a folder: a model is made of those alone")


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    # Because who may run what a model holds is no part of a model.
    target.chmod(0o600)


class HeldPath(type(Path())):  # type: ignore[misc] # the class of paths on this system
    """A path into a stored model, which lies there for as long as anybody holds one of these."""

    _held: object = None

    def with_segments(self, *segments: Any) -> HeldPath:
        """A path that is made from this one, as Python asks for it (3.12 and later)."""
        made = HeldPath(*segments)
        made._held = self._held
        return made


def load(format_: str, folder: Path, held: object) -> Path:
    """The path of what :func:`save` has saved, which holds on to ``held``.

    Raises FormatError where ``folder`` is not what such a format stores.
    """
    if any(each.is_symlink() for each in folder.rglob("*")):
        raise FormatError("the saved model is damaged: a link is stored in it")
    names = [each.name for each in folder.iterdir()]
    if format_ == FILE and not (len(names) == 1 and (folder / names[0]).is_file()):
        raise FormatError(f"the saved model is damaged: one file was saved, not {len(names)}")
    path = HeldPath(folder / names[0] if format_ == FILE else folder)
    path._held = held
    return path
