"""How tasks come into the ledger. ``tasks`` offers it all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Double, Text, bindparam, func, insert, select

from skipper.failpoints import failpoint
from skipper.ledger import checkpoints, families, parts
from skipper.ledger.connection import Connection, Statement, literal
from skipper.ledger.records import Accepted, NewTask
from skipper.ledger.schema import tasks as t
from skipper.ledger.usage import size_of
from skipper.ledger.values import columns, names
from skipper.ledger.views import TASK_FIELDS, task_of
from skipper.task import TERMINAL, State, Task, new_id

_NOW: BindParameter[float] = bindparam("now", type_=Double())
_ZERO, _ONE = literal(0), literal(1)
_ENDED = [literal(state) for state in TERMINAL]
_FRESH = {
    "state": literal(State.QUEUED),
    "attempt": _ZERO,
    "spent": _ZERO,
    "losses": _ZERO,
    "cancel_requested": _ZERO,
}
_INPUT = names("body")
_NEW_FIELDS = tuple(name for name in NewTask.__dataclass_fields__ if name != "input")
_GIVEN = (*_NEW_FIELDS, *_INPUT, "ready", "published_at")
_HAS_KEY = t.c.idempotency_key.is_not(None)
_ACCEPT = Statement(
    lambda insert: insert(t).values(_FRESH).on_conflict_do_nothing(index_elements=[t.c.id]),
    _GIVEN,
)
_ACCEPT_KEYED = Statement(
    lambda insert: (
        insert(t)
        .values(_FRESH)
        .on_conflict_do_nothing(index_elements=[t.c.idempotency_key], index_where=_HAS_KEY)
        .returning(t.c.id)
    ),
    _GIVEN,
)
_TASK = [t.c[name] for name in TASK_FIELDS]
_BY_KEY = Statement(
    select(*_TASK, t.c.idempotency_hash).where(t.c.idempotency_key == bindparam("key"))
)


def accept(conn: Connection, new: NewTask) -> Accepted:
    """Write a task as queued, unless its idempotency key is known."""
    return accept_all(conn, [new])[0]


def accept_all(conn: Connection, news: Sequence[NewTask]) -> list[Accepted]:
    """:func:`accept` for many."""
    plain = [new for new in news if new.idempotency_key is None]
    conn.run_each(_ACCEPT, [_accepting(new) for new in plain])
    parts.add(conn, ((new.id, "body", new.input) for new in plain))
    conn.stored += sum(size_of(new.input) for new in plain)
    families.join(conn, plain)
    accepted = [
        Accepted(id=new.id) if new.idempotency_key is None else _accept_keyed(conn, new)
        for new in news
    ]
    failpoint("ledger.accept.written")
    return accepted


def _accept_keyed(conn: Connection, new: NewTask) -> Accepted:
    while not conn.run(_ACCEPT_KEYED, _accepting(new)):
        assert new.idempotency_key is not None
        if (found := known(conn, new.idempotency_key)) is not None:
            earlier, seen = found
            matches = seen == new.idempotency_hash
            return Accepted(id=earlier.id, earlier=earlier, matches=matches)
    parts.add(conn, [(new.id, "body", new.input)])
    conn.stored += size_of(new.input)
    families.join(conn, [new])
    return Accepted(id=new.id)


def known(conn: Connection, key: str) -> tuple[Task, str | None] | None:
    """The task that was asked for under this idempotency key, and the hash of what was asked."""
    for *row, seen in conn.run(_BY_KEY, {"key": key}):
        return task_of(row), seen
    return None


def _accepting(new: NewTask) -> dict[str, Any]:
    is_delayed = new.available_at > new.created_at
    values = {name: getattr(new, name) for name in _NEW_FIELDS}  # asdict() would copy deeply
    values |= columns("body", new.input)
    return {**values, "ready": int(not is_delayed), "published_at": new.created_at}


_COPIED = ["function", "kind", "pool", "max_attempts", "priority", "depth", "timeout_s"]
_COPIED += ["concurrency", "concurrency_key", *_INPUT]
_SIZE = func.coalesce(t.c.body_size, func.length(t.c.body), literal(0))
_SOURCE = t.alias("source")
_REQUEUE = Statement(
    insert(t)
    .from_select(
        ["id", "created_at", "available_at", "published_at", "ready", *_FRESH, *_COPIED],
        select(
            bindparam("new_id", type_=Text()),
            *[_NOW] * 3,
            _ONE,
            *_FRESH.values(),
            *(_SOURCE.c[name] for name in _COPIED),
        )
        .where(_SOURCE.c.id == bindparam("id"), _SOURCE.c.state.in_(_ENDED))
        .with_for_update(read=True),  # it may not expire, with its input, before this is written
    )
    .returning(_SIZE, *_TASK)
)
_ENDED_ONE = Statement(
    select(t.c.function, _SIZE).where(t.c.id == bindparam("id"), t.c.state.in_(_ENDED))
)


def ended(conn: Connection, task_id: str) -> tuple[str, int] | None:
    """Function, and bytes of the input, of a task that has ended."""
    rows = conn.run(_ENDED_ONE, {"id": task_id})
    return (rows[0][0], rows[0][1]) if rows else None


def requeue(conn: Connection, task_id: str, now: float) -> Task | None:
    """Accept a copy of a task that has ended; None if there is no such ended task."""
    fresh = new_id()
    rows = conn.run(_REQUEUE, {"id": task_id, "new_id": fresh, "now": now})
    if rows:
        parts.copy(conn, task_id, fresh, "body")
        checkpoints.inherit(conn, task_id, fresh)
    conn.stored += sum(size for size, *_ in rows)
    failpoint("ledger.requeue.written")
    return task_of(rows[0][1:]) if rows else None
