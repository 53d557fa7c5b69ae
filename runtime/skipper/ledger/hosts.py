"""Pool hosts and their heartbeats: one row per host, a counter that rises while it lives."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import bindparam, delete, insert, select, update

from skipper.failpoints import failpoint
from skipper.ledger.connection import Connection, Statement, literal
from skipper.ledger.records import Beat, HostRecord
from skipper.ledger.schema import hosts as h
from skipper.ledger.schema import tasks as t
from skipper.task import State

SCHEDULER = "scheduler"
"""Stands for the pool in the row of a scheduler, which beats as hosts do and holds no tasks."""

_BY_ID = h.c.id == bindparam("id")
_SEAT = Statement(select(h.c.id).where(h.c.seat == bindparam("seat"), h.c.id != bindparam("id")))
_DROP = Statement(delete(h).where(_BY_ID))
_REGISTER = Statement(insert(h), [column.name for column in h.columns])
_BEAT = Statement(
    update(h).where(_BY_ID).values(counter=h.c.counter + literal(1)).returning(h.c.id)
)
_BEATS = Statement(select(h.c.id, h.c.pool, h.c.counter))
_UNREGISTERED = Statement(
    select(t.c.host)
    .where(t.c.state == literal(State.RUNNING), t.c.host.not_in(select(h.c.id)))
    .distinct()
)


def register(conn: Connection, host: HostRecord) -> list[str]:
    """Write the host down; the ids of earlier hosts of its seat, which must be dead.

    Release their tasks and :func:`drop` them in the same operation.
    """
    conn.run(_DROP, {"id": host.id})
    conn.run(_REGISTER, {**asdict(host), "counter": 0})
    failpoint("ledger.register.written")
    return [earlier for (earlier,) in conn.run(_SEAT, {"seat": host.seat, "id": host.id})]


def beat(conn: Connection, host_id: str) -> bool:
    """Raise the host's counter. False: it has been declared lost, and its tasks are others' now."""
    return bool(conn.run(_BEAT, {"id": host_id}))


def beats(conn: Connection) -> list[Beat]:
    """The counters of all hosts."""
    return [Beat(*row) for row in conn.run(_BEATS, {})]


def drop(conn: Connection, host_id: str) -> None:
    """Forget the host. Release its tasks in the same operation."""
    conn.run(_DROP, {"id": host_id})


def unregistered(conn: Connection) -> list[str]:
    """Ids that hold running tasks and belong to no registered host.

    A host that was dropped while it slept may have claimed once more before it noticed. What it
    holds is lost.
    """
    return [host_id for (host_id,) in conn.run(_UNREGISTERED, {})]
