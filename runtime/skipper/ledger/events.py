"""What tasks emit while they run: operations of the event store.

For :meth:`~skipper.ledger.ledger.Ledger.record` and ``read_events``. Events are written once and
never changed; they go with their task, and from the middle of what a talkative attempt emitted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Double, Integer, bindparam, delete, func, insert, select

from skipper.ledger.connection import Connection, Row, Statement, among, limited, literal
from skipper.ledger.records import Cut, Event, NewEvent
from skipper.ledger.schema import event_marks
from skipper.ledger.schema import events as e

_EVENT = (e.c.seq, e.c.at, e.c.type, e.c.data, e.c.attempt, e.c.number)
_DATA = _EVENT.index(e.c.data)
_NEW = ("task_id", "attempt", "number", "at", "type", "data")
_OF_TASK = e.c.task_id == bindparam("task_id")
_ATTEMPT = bindparam("attempt", type_=Integer())
_SEQ = bindparam("seq", type_=BigInteger())
_IS_LOG = e.c.type == literal("log")

_APPEND = Statement(insert(e).returning(e.c.seq), _NEW)
_AFTER = Statement(limited(select(*_EVENT).where(_OF_TASK, e.c.seq > _SEQ).order_by(e.c.seq)))
_LINES = Statement(
    limited(
        select(*_EVENT)
        .where(
            _OF_TASK, e.c.seq > _SEQ, _IS_LOG, e.c.attempt == func.coalesce(_ATTEMPT, e.c.attempt)
        )
        .order_by(e.c.seq)
    )
)
_NUMBERS = Statement(
    select(e.c.attempt, _IS_LOG, func.max(e.c.number))
    .where(_OF_TASK, e.c.seq <= _SEQ)
    .group_by(e.c.attempt, _IS_LOG)
)
_PROGRESS = Statement(
    limited(
        select(*_EVENT).where(_OF_TASK, e.c.type == literal("progress")).order_by(e.c.seq.desc())
    )
)
_CUT = (
    _OF_TASK,
    e.c.seq.between(
        bindparam("first_seq", type_=BigInteger()), bindparam("last_seq", type_=BigInteger())
    ),
    e.c.attempt == _ATTEMPT,
)
_CUT_LINES = Statement(delete(e).where(*_CUT, _IS_LOG))
_CUT_POINTS = Statement(delete(e).where(*_CUT, ~_IS_LOG))
_OF_TASKS = limited(select(e.c.seq).where(among(e.c.task_id, "ids")))
_FORGET = Statement(delete(e).where(e.c.seq.in_(_OF_TASKS)).returning(e.c.seq))
_FORGET_MARKS = Statement(
    delete(event_marks).where(event_marks.c.at < bindparam("before", type_=Double()))
)


def append(conn: Connection, rows: Sequence[NewEvent]) -> list[int]:
    """Write events down, in this order; the ``seq`` of each."""
    # One writer at a time: a reader that has seen a number never misses a lower one.
    conn.lock("events")
    return [found[0][0] for found in conn.run_each(_APPEND, [_params(row) for row in rows])]


def cut(conn: Connection, cuts: Sequence[Cut]) -> None:
    """Take these events out again."""
    for each in cuts:
        statement = _CUT_LINES if each.is_log else _CUT_POINTS
        conn.run(statement, {name: getattr(each, name) for name in _CUT_FIELDS})


_CUT_FIELDS = ("task_id", "attempt", "first_seq", "last_seq")


class EventBatch(NamedTuple):
    """The next events of a task, and whether there are more behind them."""

    events: list[Event]
    has_more: bool


def after(
    conn: Connection, task_id: str, seq: int, limit: int, most_bytes: int | None = None
) -> EventBatch:
    """The task's events with numbers above ``seq``, in order: up to ``limit`` of them.

    One that reaches past ``most_bytes`` of JSON is the last, so that there is always one.
    """
    rows = conn.run(_AFTER, {"task_id": task_id, "seq": seq, "limit": limit})
    found, left = [], math.inf if most_bytes is None else most_bytes
    for row in rows:
        found.append(_event_of(row))
        if (left := left - len(row[_DATA])) <= 0:
            break
    return EventBatch(found, len(found) == limit or len(found) < len(rows))


def lines(
    conn: Connection, task_id: str, seq: int, limit: int, attempt: int | None = None
) -> list[Event]:
    """:func:`after` for what was printed and logged alone, by any attempt or by that one."""
    params = {"task_id": task_id, "seq": seq, "limit": limit, "attempt": attempt}
    return [_event_of(row) for row in conn.run(_LINES, params)]


def numbers(conn: Connection, task_id: str, seq: int) -> dict[tuple[int, bool], int]:
    """The last ``number`` up to ``seq`` of each attempt's lines (True) and points (False)."""
    rows = conn.run(_NUMBERS, {"task_id": task_id, "seq": seq})
    return {(attempt, bool(is_log)): number for attempt, is_log, number in rows}


def progress(conn: Connection, task_id: str) -> Event | None:
    """The latest progress that the task emitted."""
    rows = conn.run(_PROGRESS, {"task_id": task_id, "limit": 1})
    return _event_of(rows[0]) if rows else None


def forget(conn: Connection, task_ids: Sequence[str], limit: int) -> int:
    """Delete up to ``limit`` events of these tasks; how many that were."""
    return len(conn.run(_FORGET, {"ids": conn.ids(task_ids), "limit": limit}))


def forget_marks(conn: Connection, before: float) -> None:
    """Delete the marks of writers that have not written since ``before``."""
    conn.run(_FORGET_MARKS, {"before": before})


def _params(row: NewEvent) -> dict[str, object]:
    values = {name: getattr(row, name) for name in _NEW}  # asdict() would copy deeply
    return {**values, "data": json.dumps(row.data)}


def _event_of(row: Row) -> Event:
    seq, at, kind, data, attempt, number = row
    return Event(seq=seq, at=at, type=kind, data=json.loads(data), attempt=attempt, number=number)
