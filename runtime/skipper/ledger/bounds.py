"""How many tasks of a function may run at once, over all hosts: ``concurrency=``.

A *bound* is a function, with the key of its tasks where it has one. Who claims within one holds it
until the claim is committed, so that claims of one bound follow each other in either database, and
each counts what all before it have left running. Whatever ends an attempt makes room in it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Double,
    and_,
    bindparam,
    func,
    or_,
    select,
)

from skipper.ledger.connection import Connection, Statement, among, literal
from skipper.ledger.schema import tasks as t
from skipper.task import State

_NOW: BindParameter[float] = bindparam("now", type_=Double())
# Clocks of two machines differ: only a task that has to wait is measured by this one's.
IS_CLAIMABLE = and_(
    or_(t.c.ready == literal(1), and_(t.c.ready == literal(0), t.c.available_at <= _NOW)),
    or_(t.c.expires_at.is_(None), t.c.expires_at > _NOW),
)
"""Whether a task waits, and may start now as far as time goes: the parameter ``now``."""
IS_UNBOUNDED = t.c.concurrency.is_(None)
IS_BOUNDED = t.c.concurrency.is_not(None)


def _has_room() -> ColumnElement[bool]:
    other = t.alias("other")
    running = (
        select(func.count())
        .where(
            other.c.function == t.c.function,
            other.c.concurrency_key == t.c.concurrency_key,
            other.c.state == literal(State.RUNNING),
            other.c.concurrency.is_not(None),
        )
        .scalar_subquery()
    )
    return or_(IS_UNBOUNDED, t.c.concurrency > running)


HAS_ROOM = _has_room()
"""Of a task that waits: whether one more of its bound may run."""

_WAITING = Statement(
    select(t.c.function, t.c.concurrency_key, t.c.concurrency, t.c.id)
    .where(among(t.c.id, "ids"), IS_BOUNDED, IS_CLAIMABLE)
    .order_by(t.c.function, t.c.concurrency_key, t.c.priority.desc(), t.c.id)
)
_RUNNING = Statement(
    select(func.count()).where(
        t.c.function == bindparam("function"),
        t.c.concurrency_key == bindparam("key"),
        t.c.state == literal(State.RUNNING),
        IS_BOUNDED,
    )
)


def admitted(conn: Connection, ids: Sequence[str], now: float) -> list[str]:
    """Those of these bounded tasks that may run beside what runs: the most urgent, the oldest.

    They may until the transaction ends, in which nobody else claims within their bounds.
    """
    found = conn.run(_WAITING, {"ids": conn.ids(ids), "now": now})
    passed: list[str] = []
    # In the order of the bounds, so that no two transactions wait for each other in a circle; and
    # counted once the bound is held, which shows all that those before have left running.
    for (function, key), rows in groupby(sorted(found, key=_bound_of), key=_bound_of):
        bound: dict[str, Any] = {"function": function, "key": key}
        conn.lock(f"bound {function} {key}")
        running = int(conn.run(_RUNNING, bound)[0][0])
        for _, _, most, task_id in rows:
            if running < most:
                running += 1
                passed.append(task_id)
    return passed


def _bound_of(row: Sequence[Any]) -> tuple[str, str]:
    return row[0], row[1]
