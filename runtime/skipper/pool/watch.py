"""Follows saved files: a change in ``functions/`` has the catalogue look again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from watchfiles import PythonFilter, awatch

from skipper.settings.model import Settings

QUIET_MS = 50
"""A burst of changes ends with this much quiet."""
RESCAN_S = 5.0
"""Looked at this often even if the system reports nothing: a net below lost notifications."""


async def follow(settings: Settings, refresh: Callable[[], Awaitable[None]]) -> None:
    """Call ``refresh`` after every burst of changes below ``functions/``, for ever."""
    folder = settings.functions_dir
    while True:
        if not folder.is_dir():
            await asyncio.sleep(1.0)
            continue
        known = _state(settings)
        async for _ in awatch(
            folder,
            watch_filter=PythonFilter(),
            step=QUIET_MS,
            rust_timeout=int(RESCAN_S * 1000),
            yield_on_timeout=True,
        ):
            if not folder.is_dir():
                break
            if (now := _state(settings)) != known:
                known = now
                await refresh()


def _state(settings: Settings) -> frozenset[tuple[str, int, int, int]]:
    """The files as far as a change of content shows: name, size, time of change, inode."""
    found = []
    for path in settings.functions_dir.rglob("*.py"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return frozenset(found)
