"""Ended tasks whose webhooks have no deliveries yet: recorded as they end, settled by deliveries.

The transaction that ends a task records it here, and the one that accepts its deliveries deletes
the record. So the deliveries of an end come to be even if whoever brought it about dies at once,
and of several who would accept them one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import delete, insert, select

from skipper.failpoints import failpoint
from skipper.ledger.accepting import accept_all
from skipper.ledger.connection import Connection, Statement, among, limited, locked
from skipper.ledger.records import NewTask
from skipper.ledger.schema import endings as e

Interest: TypeAlias = Callable[[str, str], bool]
"""Whether any webhook wants the end of a task of this function in this state."""

_RECORD = Statement(insert(e), ["task_id"])
_WAITING = Statement(limited(select(e.c.task_id).order_by(e.c.task_id)))
_TAKE = Statement(
    delete(e)
    .where(e.c.task_id.in_(locked(select(e.c.task_id).where(among(e.c.task_id, "ids")))))
    .returning(e.c.task_id)
)


def record(conn: Connection, interest: Interest) -> None:
    """Record the tasks that this transaction ends and that are of ``interest``."""
    rows = [
        {"task_id": ended.id}
        for ended in conn.ended
        if interest(ended.total.function, ended.total.state)
    ]
    if rows:
        conn.run_each(_RECORD, rows)


def waiting(conn: Connection, limit: int) -> list[str]:
    """Up to ``limit`` ended tasks that have no deliveries yet, the oldest first."""
    return [task_id for (task_id,) in conn.run(_WAITING, {"limit": limit})]


def settle(conn: Connection, deliveries: Mapping[str, Sequence[NewTask]]) -> list[str]:
    """Accept the deliveries of each ended task; the ended ones that this has settled.

    One that somebody else has settled, or is settling, is left to them.
    """
    settled = [task_id for (task_id,) in conn.run(_TAKE, {"ids": conn.ids(list(deliveries))})]
    accept_all(conn, [new for task_id in settled for new in deliveries[task_id]])
    failpoint("ledger.settle.written")
    return settled
