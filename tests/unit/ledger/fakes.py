"""A database that keeps rows in a list and goes wrong when told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from skipper.ledger.connection import Connection, Database, Mark, Params, Row, Statement


class OutageError(Exception):
    """The server is away."""


class RefusalError(Exception):
    """The disk is full."""


class FakeDatabase(Database):
    """``rows`` holds what was committed, ``transactions`` the same by group.

    ``trouble`` maps a step (connect, begin, commit, committed: after the fact) to the errors that
    it raises next. ``gate``, when cleared, holds up every begin, and ``is_begun`` tells of one.
    """

    def __init__(self) -> None:
        self.rows: list[object] = []
        self.transactions: list[list[object]] = []
        self.marks: list[Mark] = []
        self.connections = 0
        self.trouble: dict[str, list[Exception]] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.is_begun = threading.Event()

    def connect(self) -> Connection:
        self.stumble("connect")
        self.connections += 1
        return FakeConnection(self)

    def stumble(self, step: str) -> None:
        if self.trouble.get(step):
            raise self.trouble[step].pop(0)

    def is_outage(self, error: BaseException) -> bool:
        return isinstance(error, OutageError)

    def is_refusal(self, error: BaseException) -> bool:
        return isinstance(error, RefusalError)


class FakeConnection(Connection):
    dialect = SQLiteDialect_pysqlite()

    def __init__(self, database: FakeDatabase) -> None:
        super().__init__()
        self._database = database
        self.written: list[object] = []
        self._mark: Mark

    def write(self, row: object) -> object:
        """What the operations of the tests do."""
        self.written.append(row)
        return row

    def run(self, statement: Statement, params: Params) -> list[Row]:
        raise NotImplementedError

    def run_each(self, statement: Statement, params: Sequence[Params]) -> list[list[Row]]:
        raise NotImplementedError

    def ids(self, ids: Sequence[str]) -> object:
        return ids

    def lock(self, name: str) -> None: ...

    def begin(self, mark: Mark) -> None:
        self._database.is_begun.set()
        self._database.gate.wait(10)
        self._database.stumble("begin")
        self._mark = mark
        self.written = []

    def commit(self) -> None:
        self._database.stumble("commit")
        self._database.rows += self.written
        self._database.transactions.append(self.written)
        self._database.marks.append(self._mark)
        self._database.stumble("committed")

    def rollback(self) -> None:
        self.written = []

    def close(self) -> None: ...

    def has_committed(self, mark: Mark) -> bool:
        return mark in self._database.marks
