"""Whose files a project is made of: what another user may write would be run as this one.

A user's own files and root's are trusted. What somebody else may write is never run for a project
that was only found on the way upwards; of one that was named it is told, and root runs it not at
all. ``$SKIPPER_TRUST`` names projects of which none of this is asked.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from skipper.errors import SettingsError
from skipper.settings.environment import trusted_folders

_RUN = ("skipper.toml", "functions", "plugins")
"""What in a project's folder decides what is run, as far as it is there."""
_CODE = frozenset({".py", ".pyc", ".so"})
_ACCESS_LIST = "system.posix_acl_access"


def check_found(folder: Path) -> None:
    """Raise :class:`SettingsError` where a project that nobody has named is another user's."""
    if is_trusted(folder):
        return
    for path in (*(folder / name for name in _RUN), folder / ".skipper", folder):
        if owner := stranger(path):
            raise SettingsError(
                f"{path} belongs to {owner}, and what it says would be run as "
                f"{_user(os.geteuid())}. Write a skipper.toml of your own in your project's folder "
                "(it may be empty), name the project with --project DIR, or trust this one with "
                f"SKIPPER_TRUST={folder}."
            )


def exposures(folder: Path) -> Iterator[str]:
    """What of a project others may write: each a path and who, in words; nothing of a trusted one.

    That is all that is read or imported from it, and the folders on the way to it.
    """
    if is_trusted(folder):
        return
    for path in (folder, *_read_from(folder)):
        if writers := writers_of(path):
            yield f"{path} can be written by {writers}"
    # Whose these are is not asked: what their owner puts in the project's place is the owner's.
    for path in folder.parents:
        status = path.stat()
        if not status.st_mode & stat.S_ISVTX and (writers := _by_mode(path, status)):
            yield f"{path} can be written by {writers}"


def writers_of(path: Path) -> str:
    """Who beside this user and root may write ``path``, in words; empty where nobody may."""
    if owner := stranger(path):
        return owner
    try:
        return _by_mode(path, path.stat())
    except OSError:
        return ""


def check_runnable(file: Path, project: Path) -> str:
    """What is to be told of a file that is about to be run; empty where nothing is.

    Raises :class:`PermissionError` where this is root: whoever may write the file would be, too.
    """
    writers = writers_of(file)
    if not writers or is_trusted(project):
        return ""
    told = f"{file} can be written by {writers}"
    if os.geteuid() == 0:
        raise PermissionError(f"{told}, and would be run as root; {remedy(project)}")
    return told


def remedy(project: Path) -> str:
    """What to do about it."""
    return f"`chmod -R go-w` and chown it, or trust whoever that is: SKIPPER_TRUST={project}"


def is_trusted(project: Path) -> bool:
    """Whether ``$SKIPPER_TRUST`` names this project."""
    return project.resolve() in trusted_folders()


def _read_from(folder: Path) -> Iterator[Path]:
    for name in _RUN:
        path = folder / name
        if path.exists():
            yield path
        if name in ("functions", "plugins"):
            yield from _code_below(path)


def _code_below(folder: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = folders + sorted(name for name in files if Path(name).suffix in _CODE)
        yield from (Path(above, name) for name in names)


def stranger(path: Path) -> str:
    """The owner of ``path``, or of the link that it is, if neither this user nor root."""
    with contextlib.suppress(OSError):  # it is not there: there is nothing to run
        for status in (path.lstat(), path.stat()):
            if status.st_uid not in (0, os.geteuid()):
                return _user(status.st_uid)
    return ""


def _by_mode(path: Path, status: os.stat_result) -> str:
    if status.st_mode & stat.S_IWOTH:
        return "any user of this machine"
    if status.st_mode & stat.S_IWGRP:
        return _members(status.st_gid) or _listed(path)
    return ""


def _members(gid: int) -> str:
    """A group that has others in it; many users have one of their own, and write for it."""
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return ""
    inside = {*group.gr_mem, *(each.pw_name for each in pwd.getpwall() if each.pw_gid == gid)}
    others = inside - {"root", _name(os.geteuid())}
    # Root's group has accounts in it that nobody logs in with, such as operator.
    return f"the group {group.gr_name}" if gid and others else ""


def _listed(path: Path) -> str:
    """Whether an access list, whose mask stands where the group's mode would, lets others write."""
    with contextlib.suppress(OSError, AttributeError):  # there is none, or not on this system
        if os.getxattr(path, _ACCESS_LIST):
            return "those whom its access list names"
    return ""


def _user(uid: int) -> str:
    name = _name(uid)
    return f"user {name} ({uid})" if name else f"user {uid}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
