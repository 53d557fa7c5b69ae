"""Ended tasks that somebody is still to be told of: noted as they end, settled with what tells it.

The note is written by the transaction that ends the task, and deleted by the one that accepts the
tasks which tell of it. So an end is told even if whoever brought it about dies at once, and of
several that would tell it one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import delete, insert, select

from skipper.ledger.accepting import accept_all
from skipper.ledger.connection import Connection, Statement, among, limited, locked
from skipper.ledger.records import NewTask
from skipper.ledger.schema import endings as e

Interest: TypeAlias = Callable[[str, str], bool]
"""Whether anybody is to be told that a task of this function has ended in this state."""

_NOTE = Statement(insert(e), ["task_id"])
_WAITING = Statement(limited(select(e.c.task_id).order_by(e.c.task_id)))
_TAKE = Statement(
    delete(e)
    .where(e.c.task_id.in_(locked(select(e.c.task_id).where(among(e.c.task_id, "ids")))))
    .returning(e.c.task_id)
)


def note(conn: Connection, interest: Interest) -> None:
    """Note the tasks that this transaction ends, where somebody is interested in them."""
    rows = [
        {"task_id": ended.id}
        for ended in conn.ended
        if interest(ended.total.function, ended.total.state)
    ]
    if rows:
        conn.run_each(_NOTE, rows)


def waiting(conn: Connection, limit: int) -> list[str]:
    """Up to ``limit`` ended tasks that nobody has been told of yet, the oldest first."""
    return [task_id for (task_id,) in conn.run(_WAITING, {"limit": limit})]


def settle(conn: Connection, tellings: Mapping[str, Sequence[NewTask]]) -> list[str]:
    """Accept the tasks that tell of each ended one; the ended ones that this has settled.

    One that somebody else has settled, or is settling, is left to them.
    """
    settled = [task_id for (task_id,) in conn.run(_TAKE, {"ids": conn.ids(list(tellings))})]
    accept_all(conn, [new for task_id in settled for new in tellings[task_id]])
    return settled
