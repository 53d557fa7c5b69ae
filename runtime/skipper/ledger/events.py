"""What tasks do and say while they run: operations of the event store.

For :meth:`~skipper.ledger.ledger.Ledger.record` and ``read_events``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from sqlalchemy import BigInteger, Double, bindparam, delete, insert, select

from skipper.ledger.connection import Connection, Row, Statement, limited, literal
from skipper.ledger.records import Event, NewEvent
from skipper.ledger.schema import event_marks
from skipper.ledger.schema import events as e

_EVENT = (e.c.seq, e.c.at, e.c.type, e.c.data)
_OF_TASK = e.c.task_id == bindparam("task_id")
_SEQ = bindparam("seq", type_=BigInteger())
_APPEND = Statement(insert(e), ["task_id", "at", "type", "data"])
_AFTER = Statement(limited(select(*_EVENT).where(_OF_TASK, e.c.seq > _SEQ).order_by(e.c.seq)))
_PROGRESS = Statement(
    limited(
        select(*_EVENT).where(_OF_TASK, e.c.type == literal("progress")).order_by(e.c.seq.desc())
    )
)
_OLDEST = Statement(limited(select(e.c.seq, e.c.at).order_by(e.c.seq)))
_PRUNE = Statement(delete(e).where(e.c.seq <= _SEQ))
_FORGET_MARKS = Statement(
    delete(event_marks).where(event_marks.c.at < bindparam("before", type_=Double()))
)


def append(conn: Connection, rows: Sequence[NewEvent]) -> None:
    """Write events down, in this order."""
    # One writer at a time: a reader that has seen a number never misses a lower one.
    conn.lock("events")
    conn.run_each(_APPEND, [_params(row) for row in rows])


def after(conn: Connection, task_id: str, seq: int, limit: int) -> list[Event]:
    """The task's events with numbers above ``seq``, in order."""
    rows = conn.run(_AFTER, {"task_id": task_id, "seq": seq, "limit": limit})
    return [_event_of(row) for row in rows]


def progress(conn: Connection, task_id: str) -> Event | None:
    """The latest progress that the task told."""
    rows = conn.run(_PROGRESS, {"task_id": task_id, "limit": 1})
    return _event_of(rows[0]) if rows else None


def prune(
    conn: Connection, before: float, limit: int = 10_000, *, ahead: float = math.inf
) -> int:
    """Delete up to ``limit`` of the oldest events from before ``before``; how many that were.

    Events dated after ``ahead``, by a clock that was wrong, go with the old ones around them. The
    marks of writers that have not written since then go too.
    """
    conn.run(_FORGET_MARKS, {"before": before})
    old = []
    for seq, at in conn.run(_OLDEST, {"limit": limit}):
        if before <= at <= ahead:
            break
        old.append(seq)
    if old:
        conn.run(_PRUNE, {"seq": old[-1]})
    return len(old)


def _params(row: NewEvent) -> dict[str, object]:
    data = json.dumps(row.data)
    return {"task_id": row.task_id, "at": row.at, "type": row.type, "data": data}


def _event_of(row: Row) -> Event:
    seq, at, kind, data = row
    return Event(seq=seq, at=at, type=kind, data=json.loads(data))
