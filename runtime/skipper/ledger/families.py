"""Tasks that other tasks have started: cancelled with them, all the way down, unless detached.

``tasks`` offers :func:`cancel`; the rest is for the operations by which tasks come and end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import BindParameter, Double, Text, bindparam, null, select, update

from skipper.failpoints import failpoint
from skipper.ledger import totals
from skipper.ledger.connection import Connection, Row, Statement, among, literal
from skipper.ledger.records import Cancelling, NewTask
from skipper.ledger.schema import tasks as t
from skipper.outcomes import Outcome, stored_error
from skipper.task import State

TOLD = 100
"""So many ids at most stand in the end of a cancelled task."""

_NOW: BindParameter[float] = bindparam("now", type_=Double())
_WAITS = t.c.state.in_([literal(State.QUEUED), literal(State.RETRYING)])
_BY_ID = t.c.id == bindparam("id")
_AMONG = among(t.c.id, "ids")
_LOOK = Statement(select(t.c.state, t.c.host).where(_BY_ID).with_for_update())
_CHILDREN = Statement(
    select(t.c.id, t.c.parent_id, t.c.detached, t.c.state, t.c.cancel_requested)
    .where(among(t.c.parent_id, "ids"))
    .order_by(t.c.id)
    .with_for_update()
)
_CANCEL_WAITING = Statement(
    update(t)
    .where(_AMONG, _WAITS)
    .values(state=literal(State.CANCELLED), finished_at=_NOW, ready=null(), expires_at=null())
    .returning(t.c.id, t.c.function, t.c.pool)
)
_CANCEL_RUNNING = Statement(
    update(t)
    .where(_AMONG, t.c.state == literal(State.RUNNING))
    .values(cancel_requested=literal(1))
    .returning(t.c.id, t.c.pool)
)
_PARENTS = Statement(
    select(t.c.id, t.c.state, t.c.cancel_requested).where(_AMONG).with_for_update(read=True)
)
_ERROR = Statement(select(t.c.error).where(_BY_ID))
_TELL = Statement(update(t).where(_BY_ID).values(error=bindparam("error", type_=Text())))


class _Child(NamedTuple):
    """A task that another one has started."""

    id: str
    parent_id: str
    is_detached: int
    state: str
    cancel_requested: int


def cancel(conn: Connection, task_id: str, now: float) -> Cancelling | None:
    """Cancel what waits, ask for it where it runs, leave what has ended. None: no such task.

    The tasks that it has started are cancelled with it. One that has ended leaves those alone.
    """
    rows = conn.run(_LOOK, {"id": task_id})
    if not rows:
        return None
    state, host = State(rows[0][0]), rows[0][1]
    if state.is_terminal:
        return Cancelling(state=state, already_ended=True)
    running = cancel_all(conn, [task_id], now)
    if state is State.RUNNING:
        failpoint("ledger.cancel.written")
        return Cancelling(state=state, host=host, running=running)
    return Cancelling(state=State.CANCELLED, running=running)


def cancel_all(conn: Connection, ids: Sequence[str], now: float) -> tuple[tuple[str, str], ...]:
    """Cancel these tasks and those that they have started; id and pool of each that runs."""
    # From the top down, as every cancel does: so no two of them wait for each other in a circle.
    children = list(_descendants(conn, ids))
    family = [*ids, *(child.id for child in children if not child.is_detached)]
    running = conn.run(_CANCEL_RUNNING, {"ids": conn.ids(family)})
    ended = conn.run(_CANCEL_WAITING, {"ids": conn.ids(family), "now": now})
    totals.count(conn, ended, State.CANCELLED)
    for task_id in {row[0] for row in ended} & {child.parent_id for child in children}:
        tell(conn, task_id)
    return tuple((task_id, pool) for task_id, pool in sorted(running))


def _descendants(conn: Connection, ids: Sequence[str]) -> Iterator[_Child]:
    """What these tasks have started, and what that has: of what is detached nothing below it."""
    while ids:
        rows = [_Child(*row) for row in conn.run(_CHILDREN, {"ids": conn.ids(ids)})]
        yield from rows
        ids = [child.id for child in rows if not child.is_detached]


def join(conn: Connection, news: Iterable[NewTask]) -> None:
    """Cancel those of these new tasks whose parent has been cancelled meanwhile."""
    children = {new.id: new for new in news if new.parent_id and not new.detached}
    if not children:
        return
    # Held, so that a cancel that does not see these tasks is seen here.
    ids = {new.parent_id: None for new in children.values() if new.parent_id}
    parents = conn.run(_PARENTS, {"ids": conn.ids(list(ids))})
    cancelled = {row[0] for row in parents if _is_cancelled(*row[1:])}
    if lost := [new for new in children.values() if new.parent_id in cancelled]:
        cancel_all(conn, [new.id for new in lost], max(new.created_at for new in lost))


def tell(conn: Connection, task_id: str) -> None:
    """Have the end of a cancelled task say which tasks were cancelled with it, and which not."""
    children = list(_descendants(conn, [task_id]))
    left = [child.id for child in children if child.is_detached]
    with_it = [
        child.id
        for child in children
        if not child.is_detached and _is_cancelled(child.state, child.cancel_requested)
    ]
    if with_it or left:
        conn.run(_TELL, {"id": task_id, "error": _with_family(conn, task_id, with_it, left)})


def _with_family(conn: Connection, task_id: str, with_it: list[str], left: list[str]) -> str:
    rows: list[Row] = conn.run(_ERROR, {"id": task_id})
    error = json.loads(rows[0][0]) if rows and rows[0][0] else {"detail": "the task was cancelled"}
    members = {"cancelled": with_it[:TOLD], "detached": left[:TOLD]}
    counts = {"cancelled_count": len(with_it), "detached_count": len(left)}
    return json.dumps(stored_error(Outcome.CANCELLED, {**error, **members, **counts}))


def _is_cancelled(state: str, cancel_requested: int) -> bool:
    return bool(cancel_requested) or state == State.CANCELLED
