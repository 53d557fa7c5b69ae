"""Uploaded files: a name, a media type, a blob, and when it goes."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BindParameter, Double, bindparam, delete, func, insert, select

from skipper.ledger.connection import Connection, Statement, among, limited, literal
from skipper.ledger.records import FileRecord
from skipper.ledger.schema import files as t

_FIELDS = tuple(FileRecord.__dataclass_fields__)
_COLUMNS = [t.c[name] for name in _FIELDS]
_NOW: BindParameter[float] = bindparam("now", type_=Double())
_ADD = Statement(insert(t), _FIELDS)
_FIND = Statement(select(*_COLUMNS).where(among(t.c.id, "ids"), t.c.expires_at > _NOW))
_REMOVE = Statement(delete(t).where(t.c.id == bindparam("id")).returning(t.c.ref))
_STORED = Statement(select(func.coalesce(func.sum(t.c.size), literal(0))))
_EXPIRED = limited(select(t.c.id).where(t.c.expires_at <= _NOW))
_EXPIRE = Statement(delete(t).where(t.c.id.in_(_EXPIRED)).returning(t.c.ref))


def add(conn: Connection, record: FileRecord, most: int) -> bool:
    """Write a file down, unless all would then have more than ``most`` bytes; whether it was."""
    conn.lock("files")  # because two of them might find room for one
    if stored(conn) + record.size > most:
        return False
    conn.run(_ADD, {name: getattr(record, name) for name in _FIELDS})
    return True


def stored(conn: Connection) -> int:
    """Bytes of all files. Content that several share counts for each."""
    return int(conn.run(_STORED, {})[0][0])


def find(conn: Connection, ids: Iterable[str], now: float) -> list[FileRecord]:
    """Those of these files that are there and have not expired."""
    rows = conn.run(_FIND, {"ids": conn.ids(sorted(ids)), "now": now})
    return [FileRecord(**dict(zip(_FIELDS, row, strict=True))) for row in rows]


def remove(conn: Connection, file_id: str) -> str | None:
    """Forget a file; its blob, None where there is no such file."""
    rows = conn.run(_REMOVE, {"id": file_id})
    return rows[0][0] if rows else None


def expire(conn: Connection, now: float, limit: int) -> set[str]:
    """Forget up to ``limit`` files whose time has come; their blobs."""
    return {ref for (ref,) in conn.run(_EXPIRE, {"now": now, "limit": limit})}
