"""Brings a store's tables to what ``schema`` says, once, whoever comes first.

A new store is made at once. Alembic is imported only where there is an older one: it would add
0.2 s to the time to the first answer.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, MetaData, Table, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable

from skipper.errors import StartError
from skipper.ledger import schema
from skipper.ledger.sqlite import lock_file

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).with_name("migrations")


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """The migrations of one store: a folder under ``migrations/`` and the last of its versions."""

    name: str
    head: str
    tables: MetaData
    marks: Table
    is_relaxed: bool  # no commit waits for the disk

    @property
    def version_table(self) -> str:
        return f"{self.name}_version"


LEDGER = Branch(
    name="ledger",
    head="0013",
    tables=schema.LEDGER,
    marks=schema.ledger_marks,
    is_relaxed=False,
)
EVENTS = Branch(
    name="events",
    head="0002",
    tables=schema.EVENTS,
    marks=schema.event_marks,
    is_relaxed=True,
)


def migrate_sqlite(path: Path, branch: Branch) -> None:
    """Make or update the file at ``path``, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(lock_file(path)):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)  # the files that SQLite adds to it take its mode
        with _sqlite_engine(path).begin() as connection:
            _bring_up_to_date(connection, branch)


def migrate_postgres(url: URL, schema_name: str, branch: Branch) -> None:
    """Make or update ``schema_name`` in the database at ``url``."""
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with engine.begin() as connection:
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"skipper migration of {schema_name}"},
        )
        if not sa.inspect(connection).has_schema(schema_name):
            connection.execute(CreateSchema(schema_name))
        quoted = connection.dialect.identifier_preparer.quote_schema(schema_name)
        connection.exec_driver_sql(f"SET LOCAL search_path = {quoted}")
        _bring_up_to_date(connection, branch)


def _bring_up_to_date(connection: Connection, branch: Branch) -> None:
    version = _version(connection, branch)
    if version is None:
        make(connection, branch)
    elif version != branch.head:
        upgrade(connection, branch)


def make(connection: Connection, branch: Branch) -> None:
    """Make a new store's tables as its migrations would; a test holds both to the same."""
    for table in branch.tables.sorted_tables:
        connection.execute(CreateTable(table))
        for index in schema.in_order(table):
            connection.execute(CreateIndex(index))
    number = sa.Column("version_num", sa.String(32), primary_key=True)
    versions = Table(branch.version_table, MetaData(), number)
    versions.create(connection)
    connection.execute(versions.insert().values(version_num=branch.head))


def upgrade(connection: Connection, branch: Branch) -> None:
    """Run the migrations that a store lacks. Raises StartError for one of a newer Skipper."""
    from alembic import command
    from alembic.util import CommandError

    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps are no news to users
    try:
        command.upgrade(_alembic_config(connection, branch), branch.head)
    except CommandError:
        raise StartError(
            f"The {branch.name}'s tables have version {_version(connection, branch)}, which this "
            f"Skipper does not know; it knows them up to {branch.head}. Update Skipper."
        ) from None


def _alembic_config(connection: Connection, branch: Branch) -> Config:
    from alembic.config import Config

    config = Config()
    folder = str(_FOLDER).replace("%", "%%")  # the options are interpolated
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{folder}/{branch.name}")
    config.attributes["connection"] = connection
    config.attributes["branch"] = branch
    return config


def _version(connection: Connection, branch: Branch) -> str | None:
    if not sa.inspect(connection).has_table(branch.version_table):
        return None
    table = sa.table(branch.version_table, sa.column("version_num"))
    return connection.execute(sa.select(table.c.version_num)).scalar()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sqlite_engine(path: Path) -> Engine:
    engine = sa.create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def prepare(driver: Any, _record: Any) -> None:
        driver.isolation_level = None  # sqlite3 would leave DDL outside of transactions
        driver.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
