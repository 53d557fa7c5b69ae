"""Whether a task is still an attempt's own: asked by whoever writes down more than its end."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from skipper.ledger.connection import Connection, Statement, literal
from skipper.ledger.schema import tasks as t
from skipper.task import State

_OWNS = Statement(
    select(t.c.id)
    .where(
        t.c.id == bindparam("task_id"),
        t.c.attempt == bindparam("attempt"),
        t.c.host == bindparam("host"),
        t.c.state == literal(State.RUNNING),
    )
    .with_for_update()
)


def owns(conn: Connection, task_id: str, attempt: int, host: str) -> bool:
    """Whether this attempt of this host has the task, and has it until the transaction ends."""
    return bool(conn.run(_OWNS, {"task_id": task_id, "attempt": attempt, "host": host}))
