"""The ledger in a schema of its own in a PostgreSQL database, reached with psycopg.

A server that goes away while it commits leaves open whether it did. So each transaction first
writes its number into its writer's row of a table of marks: whoever finds the number there on a new
connection knows that the transaction is in, and does not run it twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Dialect

from skipper.ledger.connection import Connection, Database, Mark, Params, Row, Statement

_DEFAULTS = {  # a server that is gone is noticed in seconds, not in the two hours of TCP's own
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "skipper",
}
_SESSION = (
    "SET lock_timeout = '10s'; "
    # A process that was stopped in the middle of a transaction must not hold up the others.
    "SET idle_in_transaction_session_timeout = '10s'; "
    "SET timezone = 'UTC'; "
)
_READ_ONLY = "25006"  # the server is a standby now; a new connection may find the primary
_REFUSALS = (errors.DiskFull, errors.OutOfMemory, errors.IoError, errors.LockNotAvailable)


class PostgresDatabase(Database):
    """``schema`` of the database at ``url``. With ``is_relaxed`` no commit waits for the disk."""

    def __init__(self, url: URL, schema: str, marks: Table, *, is_relaxed: bool = False) -> None:
        self.url = url
        self.schema = schema
        self._marks = marks.name
        self._is_relaxed = is_relaxed

    def connect(self) -> Connection:
        arguments, options = PostgresConnection.dialect.create_connect_args(self.url)
        driver = psycopg.connect(*arguments, **{**_DEFAULTS, **options}, autocommit=True)
        name = '"' + self.schema.replace('"', '""') + '"'
        relaxed = "SET synchronous_commit = off; " if self._is_relaxed else ""
        driver.execute(f"SET search_path = {name}; {_SESSION}{relaxed}")
        return PostgresConnection(driver, self.schema, self._marks)

    def is_outage(self, error: BaseException) -> bool:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return not self.is_refusal(error)
        is_closed = isinstance(error, errors.IdleInTransactionSessionTimeout)
        return is_closed or getattr(error, "sqlstate", None) == _READ_ONLY

    def is_refusal(self, error: BaseException) -> bool:
        return isinstance(error, _REFUSALS)


class PostgresConnection(Connection):
    """A session with ``schema`` as its search path."""

    dialect: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's own

    def __init__(self, driver: psycopg.Connection[Row], schema: str, marks: str) -> None:
        super().__init__()
        self._driver = driver
        self._schema = schema
        self._marks = marks
        self._locks: set[str] = set()

    def run(self, statement: Statement, params: Params) -> list[Row]:
        return _rows(self._driver.execute(statement.text(self.dialect), params))

    def run_each(self, statement: Statement, params: Sequence[Params]) -> list[list[Row]]:
        if len(params) < 2:
            return [self.run(statement, each) for each in params]
        cursor = self._driver.cursor()
        cursor.executemany(statement.text(self.dialect), params, returning=True)
        return [_rows(result) for result in cursor.results()]

    def ids(self, ids: Sequence[str]) -> object:
        return list(ids)

    def lock(self, name: str) -> None:
        if name not in self._locks:
            digest = hashlib.sha256(f"{self._schema}/{name}".encode()).digest()
            key = int.from_bytes(digest[:8], "big", signed=True)
            self._driver.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
            self._locks.add(name)

    def begin(self, mark: Mark) -> None:
        relaxed = "" if mark.is_durable else "SET LOCAL synchronous_commit = off; "
        self._locks.clear()
        self._driver.execute(f"BEGIN; {relaxed}{self._marking(mark, mark.number)}")

    def _marking(self, mark: Mark, number: int) -> str:
        now = "extract(epoch FROM now())"
        return (
            f"INSERT INTO {self._marks} VALUES ('{mark.writer}', {number}, {now}) "  # noqa: S608 - a hex string and a number of our own
            f"ON CONFLICT (writer) DO UPDATE SET number = {number}, at = {now}"
        )

    def commit(self) -> None:
        status = self._driver.execute("COMMIT").statusmessage
        if status != "COMMIT":
            raise psycopg.InternalError(f"the transaction ended with {status}, not with COMMIT")

    def rollback(self) -> None:
        self._driver.execute("ROLLBACK")

    def close(self) -> None:
        self._driver.close()

    def has_committed(self, mark: Mark) -> bool:
        # Writing, not reading: this waits for the end of the transaction if it is still under way.
        text = (
            f"INSERT INTO {self._marks} VALUES ('{mark.writer}', -1, 0) "  # noqa: S608 - as above
            f"ON CONFLICT (writer) DO UPDATE SET at = 0 RETURNING number"
        )
        return _rows(self._driver.execute(text)) == [(mark.number,)]


def _rows(cursor: psycopg.Cursor[Any]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []
