"""Which version of each model serves: one record a model, changed by compare-and-set.

Whoever serves models asks for what has been assigned since the last look, and of two assignments
the later one holds: the order is that of their numbers, never that of the versions.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Integer, Select, and_, bindparam, func, select

from skipper.errors import NotFoundError
from skipper.ledger.connection import Connection, Insert, Row, Statement
from skipper.ledger.records import Assignment, NewAssignment
from skipper.ledger.schema import assignments as a
from skipper.ledger.schema import models as m

LOCK = "models"
"""Held by whoever publishes or assigns, so that numbers rise in the order of commits."""

_FIELDS = tuple(Assignment.__dataclass_fields__)
_OF_THE_VERSION = ("digest", "format")
_COLUMNS = [(m if name in _OF_THE_VERSION else a).c[name] for name in _FIELDS]


def _assigned() -> Select[Row]:
    version = and_(m.c.name == a.c.name, m.c.version == a.c.version)
    return select(*_COLUMNS).select_from(a.join(m, version))


def _putting(insert: Insert) -> Insert:
    changed = [column.name for column in a.columns if not column.primary_key]
    return insert.on_conflict_do_update(
        index_elements=["name"], set_={name: insert.excluded[name] for name in changed}
    )


_GET = Statement(_assigned().where(a.c.name == bindparam("name")))
_CHANGED = Statement(
    _assigned().where(a.c.seq > bindparam("seq", type_=Integer())).order_by(a.c.seq)
)
_LAST = Statement(select(func.max(a.c.seq)))
_IS_PUBLISHED = Statement(
    select(m.c.version).where(m.c.name == bindparam("name"), m.c.version == bindparam("version"))
)
_PUT = Statement(lambda insert: _putting(insert(a)), [column.name for column in a.columns])


def after_publication(serving: int | None, published: int) -> int:
    """The version that is to serve once ``published`` is there: the newest.

    ``serving`` is the one that is assigned until then, None where there is none.
    """
    return published if serving is None else max(serving, published)


def get(conn: Connection, name: str) -> Assignment | None:
    """Which version of the model ``name`` serves; None before its first one."""
    rows = conn.run(_GET, {"name": name})
    return _assignment_of(rows[0]) if rows else None


def changed_since(conn: Connection, seq: int) -> list[Assignment]:
    """The assignments later than ``seq`` that still hold, at most one a model, in order."""
    return [_assignment_of(row) for row in conn.run(_CHANGED, {"seq": seq})]


def assign(conn: Connection, new: NewAssignment) -> Assignment | None:
    """Have a version serve; None where ``new.follows`` is not the model's revision any more.

    Raises :class:`NotFoundError` where the model has no such version.
    """
    conn.lock(LOCK)
    if not conn.run(_IS_PUBLISHED, {"name": new.name, "version": new.version}):
        raise NotFoundError(f"model {new.name!r} has no version {new.version}")
    held = get(conn, new.name)
    if new.follows != (held.revision if held else 0):
        return None
    ((last,),) = conn.run(_LAST, {})
    numbers = {"seq": (last or 0) + 1, "revision": new.follows + 1}
    conn.run(_PUT, asdict(new) | numbers)
    return get(conn, new.name)


def _assignment_of(row: Row) -> Assignment:
    return Assignment(**dict(zip(_FIELDS, row, strict=True)))
