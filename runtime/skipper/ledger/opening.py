"""Finds the databases of a ledger by their URLs and has their tables made or updated."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.ledger import migrate
from skipper.ledger.connection import Database

DEFAULT_SCHEMA = "skipper"
_PAUSE_S = 0.25
_DRIVER = "postgresql+psycopg"


def prepare(
    url: str, events_url: str | None, *, schema: str | None, patience_s: float
) -> tuple[Database, Database]:
    """The ledger's database and the event store's, with their tables up to date."""
    place = _parsed(url)
    beside = _parsed(events_url) if events_url else _events_place(place)
    name = schema or DEFAULT_SCHEMA
    return (
        _prepared(place, name, migrate.LEDGER, patience_s=patience_s),
        _prepared(beside, name, migrate.EVENTS, patience_s=patience_s),
    )


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StartError("database.url is not a URL.", code=Exit.UNREACHABLE) from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise StartError(
            f"database.url names {kind!r}; use sqlite or postgresql://…", code=Exit.UNREACHABLE
        )
    return parsed


def _events_place(ledger: URL) -> URL:
    if ledger.get_backend_name() == "sqlite":
        return ledger.set(database=str(_file(ledger).with_name("events.db")))
    return ledger


def _file(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise StartError(
            "The ledger needs a file: several processes share it.", code=Exit.NOT_WRITABLE
        )
    return Path(url.database)


def _prepared(place: URL, schema: str, branch: migrate.Branch, *, patience_s: float) -> Database:
    if place.get_backend_name() == "sqlite":
        return _prepared_sqlite(_file(place), branch)
    return _prepared_postgres(place.set(drivername=_DRIVER), schema, branch, patience_s=patience_s)


def _prepared_sqlite(file: Path, branch: migrate.Branch) -> Database:
    from skipper.ledger.sqlite import SqliteDatabase

    try:
        migrate.migrate_sqlite(file, branch)
    except (OSError, DBAPIError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.orig
        raise StartError(f"{file} cannot be used: {reason}.", code=Exit.NOT_WRITABLE) from None
    return SqliteDatabase(file, is_relaxed=branch.is_relaxed)


def probe(url: str) -> str | None:
    """Why the PostgreSQL database at ``url`` lets nobody in, or None where it does.

    It makes and changes nothing there.
    """
    try:
        place = _parsed(url).set(drivername=_DRIVER)
        _postgres(place, DEFAULT_SCHEMA, migrate.LEDGER).connect().close()
    except StartError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - psycopg is not installed everywhere, its errors neither
        return str(error).strip() or type(error).__name__
    return None


def _postgres(url: URL, schema: str, branch: migrate.Branch) -> Database:
    try:
        from skipper.ledger.postgres import PostgresDatabase
    except ImportError:
        raise StartError(
            "PostgreSQL needs psycopg: pip install 'skipper-runtime[postgres]'.",
            code=Exit.UNREACHABLE,
        ) from None
    return PostgresDatabase(url, schema, branch.marks, is_relaxed=branch.is_relaxed)


def _prepared_postgres(
    url: URL, schema: str, branch: migrate.Branch, *, patience_s: float
) -> Database:
    database = _postgres(url, schema, branch)
    until = time.monotonic() + patience_s
    while True:
        try:
            migrate.migrate_postgres(url, schema, branch)
        except DBAPIError as error:
            reason = str(error.orig).strip().replace("\n", "; ")
            if time.monotonic() >= until or not _may_pass(reason):
                shown = url.render_as_string(hide_password=True)
                raise StartError(
                    f"{shown} cannot be used: {reason}.", code=Exit.UNREACHABLE
                ) from None
            time.sleep(_PAUSE_S)
        else:
            return database


def _may_pass(reason: str) -> bool:
    """Whether a server that cannot be used now may come round: it starts, or is not there yet."""
    return "FATAL" not in reason or "the database system is" in reason or "too many" in reason
