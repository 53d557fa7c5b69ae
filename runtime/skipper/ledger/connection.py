"""A connection of the ledger, and the statements that run on it.

Statements are written in SQLAlchemy Core, once for both databases, and compiled to text once per
dialect. They run on the driver's own connection: SQLAlchemy's way through an execution costs four
times what SQLite needs to do the work. So nothing here converts values: columns hold text, numbers
and bytes, and times are seconds since the epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

Row: TypeAlias = tuple[Any, ...]
Params: TypeAlias = Mapping[str, Any]
Insert: TypeAlias = postgresql.Insert | sqlite.Insert
MakeInsert: TypeAlias = Callable[[Table], Insert]

_INSERTS: Mapping[str, MakeInsert] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}


class Statement:
    """One statement. Every value that changes from run to run is a ``bindparam`` with a name.

    Where the databases differ, ``element`` is a function of the dialect's own ``insert``.
    """

    def __init__(
        self,
        element: Executable | Callable[[MakeInsert], Executable],
        columns: Sequence[str] | None = None,
    ) -> None:
        self._element = element
        self._columns = columns
        self._texts: dict[str, str] = {}

    def text(self, dialect: Dialect) -> str:
        """The statement as ``dialect`` wants it, with named parameters."""
        found = self._texts.get(dialect.name)
        if found is None:
            found = self._texts[dialect.name] = self._compile(dialect)
        return found

    def _compile(self, dialect: Dialect) -> str:
        element = self._element
        if not isinstance(element, Executable):
            element = element(_INSERTS[dialect.name])
        compiled = element.compile(dialect=dialect, column_keys=self._columns)  # type: ignore[attr-defined]  # every Executable used here is a ClauseElement too
        hidden = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        assert not hidden, f"write {hidden} as literals or as named parameters"
        return str(compiled)


def literal(value: str | int) -> ColumnElement[Any]:
    """A constant inside a statement, which partial indexes need to be seen."""
    return literal_column(f"'{value}'" if isinstance(value, str) else str(value))


def limited(query: Select[Any]) -> Select[Any]:
    """``query`` cut off after as many rows as its ``limit`` parameter allows."""
    # SQLite's dialect adds an offset of its own accord, as a value that nobody named.
    return query.limit(bindparam("limit", type_=Integer())).offset(literal(0))


def locked(query: Select[Any]) -> Select[Any]:
    """The rows of ``query`` that no other transaction is changing, held for this one."""
    # In a WITH of its own: a plain subquery may run, and lock rows, more than once in PostgreSQL.
    return select(query.with_for_update(skip_locked=True).cte("picked"))


class among(ColumnElement[bool]):  # noqa: N801 - used as SQL functions are
    """``column IN (…)`` the ids of one parameter: see :meth:`Connection.ids`."""

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.column = column
        self.ids = bindparam(name, type_=Text())


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column, ids = compiler.process(element.column, **kw), compiler.process(element.ids, **kw)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - of compiled parts


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    ids = compiler.process(element.ids, **kw).removesuffix("::VARCHAR")
    return f"{column} = ANY({ids}::text[])"


class Total(NamedTuple):
    """What one counter of ended tasks counts."""

    function: str
    pool: str
    state: str


class Ended(NamedTuple):
    """A task that has come to a terminal state, and the counter of such."""

    id: str
    total: Total


class Connection(ABC):
    """One connection of one thread. Operations are functions that take it first.

    ``ended`` gathers the tasks that the present transaction ends; the ledger counts and records
    them in one go before it commits. ``stored`` sums up the bytes of inputs and results that it
    stores, less those that it forgets.
    """

    dialect: Dialect
    ended: list[Ended]
    stored: int

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin to gather anew, for another transaction."""
        self.ended, self.stored = [], 0

    @abstractmethod
    def run(self, statement: Statement, params: Params) -> list[Row]:
        """Run ``statement`` once; its rows, none if it returns none."""

    @abstractmethod
    def run_each(self, statement: Statement, params: Sequence[Params]) -> list[list[Row]]:
        """Run ``statement`` once per member of ``params``, in as few exchanges as can be."""

    @abstractmethod
    def ids(self, ids: Sequence[str]) -> object:
        """The value of an :class:`among` parameter."""

    @abstractmethod
    def lock(self, name: str) -> None:
        """Hold ``name`` until the transaction ends, once no other writer's holds it."""

    @abstractmethod
    def begin(self, mark: Mark) -> None:
        """Begin a transaction that may write."""

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def has_committed(self, mark: Mark) -> bool:
        """Whether the transaction that began with ``mark`` is in the database after all."""


class Mark(NamedTuple):
    """Which transaction of which writer, and whether its commit waits for the disk."""

    writer: str
    number: int
    is_durable: bool


class Database(ABC):
    """How one kind of database is reached, prepared and judged."""

    @abstractmethod
    def connect(self) -> Connection: ...

    @abstractmethod
    def is_outage(self, error: BaseException) -> bool:
        """Whether the connection is of no more use and the same work may succeed on a new one."""

    @abstractmethod
    def is_refusal(self, error: BaseException) -> bool:
        """Whether the database takes no work at all now (full, locked, read-only), whoever asks."""
