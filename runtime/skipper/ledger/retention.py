"""Takes old tasks out of the ledger and remembers that they were there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import BindParameter, Double, bindparam, delete, exists, func, insert, select, union

from skipper.failpoints import failpoint
from skipper.ledger import parts
from skipper.ledger.connection import Connection, Statement, among, limited, literal
from skipper.ledger.records import Pruned
from skipper.ledger.schema import (
    attempts,
    checkpoints,
    files,
    ledger_marks,
    task_parts,
    tombstones,
)
from skipper.ledger.schema import tasks as t
from skipper.task import first_id

_BEFORE: BindParameter[float] = bindparam("before", type_=Double())
# An id begins with the time of its making, so the search ends where younger tasks begin.
_OLD = Statement(
    limited(
        select(t.c.id)
        .where(t.c.id < bindparam("young"), t.c.finished_at < _BEFORE)
        .order_by(t.c.id)
    )
)
_DELETE = Statement(
    delete(t)
    .where(among(t.c.id, "ids"))
    .returning(
        t.c.id,
        t.c.body_ref,
        t.c.result_ref,
        func.coalesce(t.c.body_size, func.length(t.c.body), literal(0))
        + func.coalesce(t.c.result_size, func.length(t.c.result), literal(0)),
    )
)
_DELETE_ATTEMPTS = Statement(delete(attempts).where(among(attempts.c.task_id, "ids")))
_DELETE_CHECKPOINTS = Statement(delete(checkpoints).where(among(checkpoints.c.task_id, "ids")))
_BURY = Statement(insert(tombstones), ["id", "at"])
_IN_USE = Statement(
    union(
        select(t.c.body_ref).where(t.c.body_ref.is_not(None), among(t.c.body_ref, "refs")),
        select(t.c.result_ref).where(t.c.result_ref.is_not(None), among(t.c.result_ref, "refs")),
        select(task_parts.c.ref).where(among(task_parts.c.ref, "refs")),
        select(files.c.ref).where(among(files.c.ref, "refs")),
    )
)
_IS_GONE = Statement(select(exists().where(tombstones.c.id == bindparam("id"))))
_OLD_STONES = limited(select(tombstones.c.id).where(tombstones.c.at < _BEFORE))
_FORGET = Statement(
    delete(tombstones).where(tombstones.c.id.in_(_OLD_STONES)).returning(tombstones.c.id)
)
_FORGET_MARKS = Statement(delete(ledger_marks).where(ledger_marks.c.at < _BEFORE))


def old(conn: Connection, before: float, limit: int) -> list[str]:
    """The first ``limit`` tasks, by id, that ended before ``before``: those to prune."""
    rows = conn.run(_OLD, {"young": first_id(before), "before": before, "limit": limit})
    return [task_id for (task_id,) in rows]


def prune(conn: Connection, task_ids: Sequence[str], now: float) -> Pruned:
    """Delete these tasks, as far as they are there still, each leaving a tombstone."""
    failpoint("ledger.prune.looked")
    if not task_ids:
        return Pruned(ids=(), refs=())
    rows = conn.run(_DELETE, {"ids": conn.ids(task_ids)})
    conn.run(_DELETE_ATTEMPTS, {"ids": conn.ids(task_ids)})
    conn.run(_DELETE_CHECKPOINTS, {"ids": conn.ids(task_ids)})
    ids = sorted(row[0] for row in rows)
    conn.run_each(_BURY, [{"id": each, "at": now} for each in ids])
    conn.stored -= sum(row[3] for row in rows)
    refs = {ref for row in rows for ref in row[1:3] if ref is not None}
    refs |= parts.remove(conn, task_ids)
    return Pruned(ids=tuple(ids), refs=tuple(sorted(unused(conn, refs))))


def unused(conn: Connection, refs: Iterable[str]) -> set[str]:
    """Those of these blobs that are part of no input, result or checkpoint, and no file's."""
    asked = set(refs)
    if not asked:
        return set()
    return asked - {ref for (ref,) in conn.run(_IN_USE, {"refs": conn.ids(sorted(asked))})}


def is_gone(conn: Connection, task_id: str) -> bool:
    """Whether retention took the task with this id."""
    return bool(conn.run(_IS_GONE, {"id": task_id})[0][0])


def forget(conn: Connection, before: float, limit: int) -> int:
    """Delete up to ``limit`` tombstones from before ``before``; how many that were.

    The marks of writers that have not written since then go too.
    """
    conn.run(_FORGET_MARKS, {"before": before})
    return len(conn.run(_FORGET, {"before": before, "limit": limit}))
