"""Follows saved files: a change of one that a function's code consists of is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from watchfiles import PythonFilter, awatch

from skipper.settings.model import Settings

QUIET_MS = 50
"""A burst of changes ends with this much quiet."""
RESCAN_S = 1.0
"""Looked at this often even if the system reports nothing: a net below lost notifications, and the
way in which a new folder is found."""


State = dict[Path, tuple[int, int, int]]
"""Files by path, as far as a change of content shows: size, time of change, inode."""


async def follow(
    settings: Settings,
    imported: Callable[[], Iterable[Path]],
    refresh: Callable[[], Awaitable[None]],
) -> None:
    """Call ``refresh`` after every burst of changes that matter, for ever.

    They are those of Python files in ``functions/`` and ``plugins/``, and of the modules elsewhere
    in the project that these import: ``imported`` names them.
    """
    roots = (settings.functions_dir, settings.plugins_dir)
    folders, known = look(roots, imported())
    while True:
        if not folders:
            await asyncio.sleep(RESCAN_S)
            folders, _ = look(roots, imported())
            continue
        async for _ in awatch(
            *folders,
            watch_filter=PythonFilter(),
            step=QUIET_MS,
            rust_timeout=int(RESCAN_S * 1000),
            yield_on_timeout=True,
            recursive=False,
        ):
            watched, (folders, state) = folders, look(roots, imported())
            if state != known:
                known = state
                await refresh()
            if folders != watched:
                break


def look(roots: Iterable[Path], imported: Iterable[Path]) -> tuple[set[Path], State]:
    """The folders to watch, and the Python files below ``roots`` and those ``imported``."""
    files = {*imported}
    folders = {file.parent for file in files if file.parent.is_dir()}
    for root in roots:
        for path, names, inside in os.walk(root):
            names[:] = [name for name in names if name != "__pycache__"]
            folders.add(Path(path))
            files |= {Path(path, name) for name in inside if name.endswith(".py")}
    return folders, {file: state for file in files if (state := _state(file)) is not None}


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
