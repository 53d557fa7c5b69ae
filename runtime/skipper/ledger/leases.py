"""What hosts hold: taking it from one that is lost, and what one is asked to give up."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from skipper.failpoints import failpoint
from skipper.ledger import hosts, tasks
from skipper.ledger.connection import Connection, Statement, literal
from skipper.ledger.records import Released
from skipper.ledger.schema import tasks as t
from skipper.task import State

_CANCEL_REQUESTS = Statement(
    select(t.c.id).where(
        t.c.state == literal(State.RUNNING),
        t.c.host == bindparam("host"),
        t.c.cancel_requested == literal(1),
    )
)


def rescue(conn: Connection, host: str, now: float) -> list[Released]:
    """Take every task from a host that is dead, and forget the host."""
    released = tasks.release(conn, host, None, now, lost=True)
    hosts.drop(conn, host)
    failpoint("ledger.rescue.written")
    return released


def cancel_requests(conn: Connection, host: str) -> list[str]:
    """Ids of tasks that run on ``host`` and that somebody has asked to cancel."""
    return [task_id for (task_id,) in conn.run(_CANCEL_REQUESTS, {"host": host})]
