"""Checkpoints of running tasks: recorded by the attempt that owns one, found by the next.

The last of a task are kept while it runs or may be tried again, and those of one that failed for a
while longer. What is kept no more is first marked as dropped: its blobs stay for a moment, because
somebody who has just put the same content means to refer to it. They stand among the parts of
the task, as ``checkpoint/NUMBER``.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    Double,
    Integer,
    Text,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import delete as delete_from

from skipper.failpoints import failpoint
from skipper.ledger import parts
from skipper.ledger.connection import Connection, Row, Statement, limited, literal
from skipper.ledger.ownership import owns
from skipper.ledger.records import Checkpoint, CheckpointBounds, NewCheckpoint, NotKept
from skipper.ledger.schema import checkpoints as c
from skipper.ledger.schema import tasks as t
from skipper.task import State

_FIELDS = tuple(Checkpoint.__dataclass_fields__)
_COLUMNS = [c.c[name] for name in _FIELDS]
_OF_TASK = c.c.task_id == bindparam("task_id")
_IS_KEPT = c.c.dropped_at.is_(None)

_LAST = Statement(select(func.max(c.c.number)).where(_OF_TASK))
_STORED = Statement(select(func.coalesce(func.sum(c.c.size), literal(0))).where(_IS_KEPT))
_STORED_OF_TASK = Statement(
    select(func.coalesce(func.sum(c.c.size), literal(0))).where(
        _OF_TASK, _IS_KEPT, c.c.number <= bindparam("until", type_=Integer())
    )
)
_ADD = Statement(insert(c), ["task_id", *_FIELDS])
_DROP_BEFORE = Statement(
    update(c)
    .where(_OF_TASK, _IS_KEPT, c.c.number <= bindparam("until", type_=Integer()))
    .values(dropped_at=bindparam("at", type_=Double()))
)


def keep(conn: Connection, new: NewCheckpoint, bounds: CheckpointBounds) -> int | NotKept:
    """Record a checkpoint while its attempt owns the task; its number, from 1.

    Those before it are dropped, but for as many as are kept.
    """
    conn.lock("checkpoints")  # because two of them might find room for one
    if not owns(conn, new.task_id, new.attempt, new.host):
        return NotKept.TAKEN
    number, until = _next(conn, new.task_id, bounds)
    if _stored_beside(conn, new.task_id, until) + new.size > bounds.stored:
        return NotKept.FULL
    row = {name: getattr(new, name) for name in ("task_id", "attempt", "digest", "format")}
    row |= {"number": number, "size": new.size, "at": new.at, "progress": _text(new.progress)}
    conn.run(_ADD, row)
    parts.add_refs(conn, new.task_id, _part(number), new.refs)
    conn.run(_DROP_BEFORE, {"task_id": new.task_id, "until": until, "at": new.at})
    failpoint("ledger.checkpoint.written")
    return number


def has_room(conn: Connection, task_id: str, size: int, bounds: CheckpointBounds) -> bool:
    """Whether a checkpoint of this size would be recorded, as it looks now."""
    _, until = _next(conn, task_id, bounds)
    return _stored_beside(conn, task_id, until) + size <= bounds.stored


def _next(conn: Connection, task_id: str, bounds: CheckpointBounds) -> tuple[int, int]:
    """The number of the task's next checkpoint, and of the last that it takes the place of."""
    number = 1 + (conn.run(_LAST, {"task_id": task_id})[0][0] or 0)
    return number, number - bounds.each


def _stored_beside(conn: Connection, task_id: str, until: int) -> int:
    """Bytes of all that is kept, but for a task's own up to the number ``until``."""
    ((stored,),) = conn.run(_STORED, {})
    ((own,),) = conn.run(_STORED_OF_TASK, {"task_id": task_id, "until": until})
    return int(stored) - int(own)


# --- to go on from ---------------------------------------------------------------------------

_KEPT = Statement(
    select(*_COLUMNS)
    .where(_OF_TASK, _IS_KEPT, c.c.attempt < bindparam("attempt", type_=Integer()))
    .order_by(c.c.number.desc())
)
_NEWEST = Statement(
    limited(select(*_COLUMNS).where(_OF_TASK, _IS_KEPT).order_by(c.c.number.desc()))
)
_COPIED = [c.c[name] for name in _FIELDS if name != "attempt"]
_COPY = Statement(
    insert(c)
    .from_select(
        ["task_id", "attempt", *(column.name for column in _COPIED)],
        select(bindparam("new_id", type_=Text()), literal(0), *_COPIED)
        .select_from(c.join(t, t.c.id == c.c.task_id))
        .where(_OF_TASK, _IS_KEPT, t.c.state != literal(State.SUCCEEDED)),
    )
    .returning(c.c.number)
)


def kept(conn: Connection, task_id: str, attempt: int) -> list[Checkpoint]:
    """What the attempt with this number may go on from: the newest first."""
    rows = conn.run(_KEPT, {"task_id": task_id, "attempt": attempt})
    return [_checkpoint_of(row) for row in rows]


def newest(conn: Connection, task_id: str) -> Checkpoint | None:
    """The last checkpoint of a task that is kept."""
    rows = conn.run(_NEWEST, {"task_id": task_id, "limit": 1})
    return _checkpoint_of(rows[0]) if rows else None


def inherit(conn: Connection, task_id: str, new_id: str) -> None:
    """Have a copy of a task that did not succeed go on from where that one had come to."""
    for (number,) in conn.run(_COPY, {"task_id": task_id, "new_id": new_id}):
        parts.copy(conn, task_id, new_id, _part(number))


# --- what is kept no more --------------------------------------------------------------------

_ENDED = (
    select(c.c.task_id, c.c.number)
    .select_from(c.join(t, t.c.id == c.c.task_id))
    .where(
        _IS_KEPT,
        or_(
            t.c.state == literal(State.SUCCEEDED),
            t.c.finished_at < bindparam("before", type_=Double()),
        ),
    )
)
_FIND_ENDED = Statement(limited(_ENDED))
_DROP = Statement(
    update(c)
    .where(_OF_TASK, c.c.number == bindparam("number", type_=Integer()), _IS_KEPT)
    .values(dropped_at=bindparam("at", type_=Double()))
)
_FIND_DROPPED = Statement(
    limited(
        select(c.c.task_id, c.c.number).where(
            c.c.dropped_at.is_not(None), c.c.dropped_at < bindparam("before", type_=Double())
        )
    )
)
_FORGET = Statement(
    delete_from(c).where(_OF_TASK, c.c.number == bindparam("number", type_=Integer()))
)


def drop(conn: Connection, before: float, now: float, limit: int) -> int:
    """Drop up to ``limit`` of tasks that succeeded, or ended before ``before``; how many."""
    rows = conn.run(_FIND_ENDED, {"before": before, "limit": limit})
    conn.run_each(_DROP, [{"task_id": id_, "number": number, "at": now} for id_, number in rows])
    return len(rows)


def forget(conn: Connection, before: float, limit: int) -> set[str]:
    """Forget up to ``limit`` that were dropped before ``before``; the blobs they consisted of."""
    rows = conn.run(_FIND_DROPPED, {"before": before, "limit": limit})
    conn.run_each(_FORGET, [{"task_id": id_, "number": number} for id_, number in rows])
    return parts.remove_named(conn, [(id_, _part(number)) for id_, number in rows])


def _part(number: int) -> str:
    """How its blobs are named among the parts of its task."""
    return f"checkpoint/{number}"


def _text(progress: dict[str, Any] | None) -> str | None:
    return None if progress is None else json.dumps(progress)


def _checkpoint_of(row: Row) -> Checkpoint:
    values = dict(zip(_FIELDS, row, strict=True))
    progress = values["progress"]
    return Checkpoint(**values | {"progress": progress and json.loads(progress)})
