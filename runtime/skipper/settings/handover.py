"""How settings reach the processes of a tree: its run folder, and the file of settings in it.

A role process does not read the settings again: the launcher hands each child the resolved ones.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from skipper.errors import SettingsError
from skipper.settings.environment import SOCKET_PATH_LIMIT
from skipper.settings.masking import in_clear
from skipper.settings.model import Settings

LAST_GOOD = "good"
"""The folder in the run folder where hosts keep what they serve, for those that come next."""


def make_run_dir(settings: Settings) -> Path:
    """Make the run folder, private to this user.

    Raises :class:`SettingsError` where it is someone else's, or too long for a pool's socket.
    """
    folder = settings.run_dir
    _check_sockets_fit(settings)
    for part in (folder.parent, folder):
        if part == folder or part.name.startswith("skp-"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(part)
    return folder


def _check_sockets_fit(settings: Settings) -> None:
    for pool in settings.pools:
        path = settings.run_dir / f"{pool}.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise SettingsError(
                f"pools.{pool}: its socket {path} has a longer name than the {SOCKET_PATH_LIMIT} "
                "bytes that the system takes; give the pool a shorter one."
            )


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError(
            f"{folder} must be a folder of your own that nobody else can open; remove it and "
            "start again, or set XDG_RUNTIME_DIR to one that is."
        )


def dump(settings: Settings, file: Path) -> None:
    """Write ``settings``, secrets included, to ``file``, readable by its owner alone."""
    text = json.dumps(in_clear(settings))
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def restore(file: Path) -> Settings:
    """The settings that :func:`dump` wrote."""
    return Settings.model_validate_json(file.read_text("utf-8"))
