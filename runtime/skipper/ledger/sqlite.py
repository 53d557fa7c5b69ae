"""The ledger in one SQLite file: one writer at a time over all processes, readers beside it (WAL).

SQLite lets writers wait for each other with growing sleeps, so that the busiest starves the rest.
Here they take turns: a writer that wants to begin holds a lock file until it has begun, and whoever
has just committed finds it taken and stands behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from skipper.ledger.connection import Connection, Database, Mark, Params, Row, Statement

BUSY_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.0003
_LONGEST_PAUSE_S = 0.005
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",  # KiB
    "PRAGMA journal_size_limit = 67108864",
)
_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


class SqliteDatabase(Database):
    """The file ``path``. With ``is_relaxed`` no commit waits for the disk."""

    def __init__(self, path: Path, *, is_relaxed: bool = False) -> None:
        self.path = path
        self._is_relaxed = is_relaxed

    def connect(self) -> Connection:
        return SqliteConnection(self.path, is_relaxed=self._is_relaxed)

    def is_outage(self, error: BaseException) -> bool:
        return False  # there is no server to lose

    def is_refusal(self, error: BaseException) -> bool:
        if isinstance(error, OSError):
            return True  # the lock file
        code = getattr(error, "sqlite_errorcode", None)
        return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF in _REFUSALS


class SqliteConnection(Connection):
    """A connection to the file, used by the thread that made it."""

    dialect = SQLiteDialect_pysqlite(paramstyle="named")

    def __init__(self, path: Path, *, is_relaxed: bool) -> None:
        super().__init__()
        # No isolation level: the module then begins nothing behind our back.
        self._driver = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        for pragma in _PRAGMAS:
            self._driver.execute(pragma)
        self._is_relaxed = is_relaxed
        self._is_synced = True
        self._turn_file = lock_file(path)
        self._turn: int | None = None

    def run(self, statement: Statement, params: Params) -> list[Row]:
        return self._driver.execute(statement.text(self.dialect), params).fetchall()

    def run_each(self, statement: Statement, params: Sequence[Params]) -> list[list[Row]]:
        text, execute = statement.text(self.dialect), self._driver.execute
        return [execute(text, each).fetchall() for each in params]

    def ids(self, ids: Sequence[str]) -> object:
        return json.dumps(list(ids))

    def lock(self, name: str) -> None:
        """Nothing to do: a transaction that writes has the whole file."""

    def begin(self, mark: Mark) -> None:
        self._sync(mark.is_durable and not self._is_relaxed)
        until = time.monotonic() + BUSY_TIMEOUT_S
        with self._in_turn(until):
            _wait(self._begins, until)

    def _sync(self, is_synced: bool) -> None:
        if is_synced != self._is_synced:
            self._driver.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
            self._is_synced = is_synced

    def _begins(self) -> None:
        # Immediate: a transaction that first reads could find, when it writes, that it is too late.
        self._driver.execute("BEGIN IMMEDIATE")

    @contextmanager
    def _in_turn(self, until: float) -> Iterator[None]:
        if self._turn is None:
            self._turn = os.open(self._turn_file, os.O_RDWR | os.O_CREAT, 0o600)
            self._driver.execute("PRAGMA busy_timeout = 0")  # the waiting is done here from now on
        turn = self._turn
        _wait(lambda: fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB), until)
        try:
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)

    def commit(self) -> None:
        self._driver.execute("COMMIT")

    def rollback(self) -> None:
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def close(self) -> None:
        self._driver.close()
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None

    def has_committed(self, mark: Mark) -> bool:
        return False  # a commit that failed here has been rolled back


def lock_file(path: Path) -> Path:
    """The file whose lock is the turn to write to the database at ``path``."""
    return path.with_name(path.name + ".lock")


def _wait(attempt: Callable[[], None], until: float) -> None:
    """Repeat ``attempt`` until it finds nobody in its way, or raise what it raises at ``until``."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except (BlockingIOError, sqlite3.OperationalError) as error:
            if not _is_busy(error) or time.monotonic() >= until:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.2, _LONGEST_PAUSE_S)


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY)
    return code & 0xFF == sqlite3.SQLITE_BUSY
