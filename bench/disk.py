"""What the disk does by itself: the floor below everything that promises to be on it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

_TIMES = 200
_BLOCK = bytes(4096)


def fdatasync_ms(folder: Path) -> float:
    """The middle of the times that one more block takes to the disk below ``folder``."""
    with (folder / "blocks").open("wb", buffering=0) as file:

        def append() -> None:
            file.write(_BLOCK)
            os.fdatasync(file.fileno())

        return statistics.median(_times(append)) * 1000


def commits_per_s(folder: Path) -> float:
    """Commits of one row each into a SQLite file there, set as the ledger is: WAL, FULL."""
    with contextlib.closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as rows:
        rows.execute("PRAGMA journal_mode = WAL")
        rows.execute("PRAGMA synchronous = FULL")
        rows.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, body BLOB)")
        times = _times(lambda: rows.execute("INSERT INTO rows (body) VALUES (?)", (_BLOCK[:100],)))
    return len(times) / sum(times)


def _times(act: Callable[[], object]) -> list[float]:
    """How long each of many turns takes, in seconds."""
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return times
