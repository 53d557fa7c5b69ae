"""Ways to look at tasks. ``tasks`` offers them all; they change nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Double,
    bindparam,
    case,
    func,
    or_,
    select,
    union_all,
)

from skipper.ledger.bounds import HAS_ROOM
from skipper.ledger.connection import Connection, Row, Statement, limited, literal
from skipper.ledger.records import Result, WaitingTask
from skipper.ledger.schema import attempts as attempt_table
from skipper.ledger.schema import tasks as t
from skipper.ledger.values import value_of
from skipper.task import Attempt, State, Task
from skipper.values.value import JSON, Value

TASK_FIELDS = tuple(name for name in Task.model_fields if name in t.c)
_TASK = [t.c[name] for name in TASK_FIELDS]
_ERROR = TASK_FIELDS.index("error")
_BY_ID = t.c.id == bindparam("id")


def task_of(row: Sequence[Any]) -> Task:
    """The task in a row of ``TASK_FIELDS``."""
    values = dict(zip(TASK_FIELDS, row, strict=True))
    if row[_ERROR] is not None:
        values["error"] = json.loads(row[_ERROR])
    return Task(**values)


# --- one task --------------------------------------------------------------------------------

_GET = Statement(select(*_TASK).where(_BY_ID))
_RESULT = Statement(select(*_TASK, t.c.result, t.c.result_ref, t.c.result_type).where(_BY_ID))
_STORED = Statement(
    select(
        # What is JSON is no file where it is in the row, and would be read for nothing.
        case((t.c.result_type.is_not(None), t.c.result)),
        t.c.result_ref,
        t.c.result_size,
        t.c.result_type,
    ).where(_BY_ID)
)
_ATTEMPT_FIELDS = tuple(Attempt.model_fields)
_ATTEMPTS = Statement(
    select(*(attempt_table.c[name] for name in _ATTEMPT_FIELDS))
    .where(attempt_table.c.task_id == bindparam("id"))
    .order_by(attempt_table.c.number)
)
_LAST_ATTEMPT = Statement(
    select(
        t.c.attempt,
        t.c.host,
        t.c.instance,
        t.c.started_at,
        t.c.finished_at,
        t.c.code,
        t.c.model,
        t.c.state,
        t.c.error,
    ).where(_BY_ID, t.c.attempt > literal(0))
)


def get(conn: Connection, task_id: str) -> Task | None:
    """The task, or None if there is none with this id."""
    rows = conn.run(_GET, {"id": task_id})
    return task_of(rows[0]) if rows else None


def result(conn: Connection, task_id: str) -> Result | None:
    """The task with its result, which is there once it has succeeded."""
    rows = conn.run(_RESULT, {"id": task_id})
    return Result(task_of(rows[0][:-3]), value_of(*rows[0][-3:])) if rows else None


def stored_result(conn: Connection, task_id: str) -> Value | None:
    """The result of a task, unless it has none, or it is JSON that lies in the task's row."""
    for inline, ref, size, media_type in conn.run(_STORED, {"id": task_id}):
        if inline is not None or ref is not None:
            return Value(inline=inline, ref=ref, size=size, media_type=media_type or JSON)
    return None


def attempts(conn: Connection, task_id: str) -> list[Attempt]:
    """All attempts of a task, first to last; those that ended and the one that runs."""
    # The task first: an attempt that is set aside between the two statements is then seen once.
    last = conn.run(_LAST_ATTEMPT, {"id": task_id})
    rows = conn.run(_ATTEMPTS, {"id": task_id})
    found = [_attempt_of(row) for row in rows]
    return found + [
        _last_attempt_of(row)
        for row in last
        if _is_shown(State(row[-2])) and row[0] not in [attempt.number for attempt in found]
    ]


def history(conn: Connection, task_id: str) -> tuple[Task, list[Attempt]] | None:
    """The task, and those of its attempts after which it went on or was ended by someone else."""
    task = get(conn, task_id)
    if task is None:
        return None
    # Read second: there may be one by now of whose end the task, as it was read, does not know.
    known = task.attempt - (task.state is State.RUNNING)
    rows = conn.run(_ATTEMPTS, {"id": task_id}) if known > 0 else []
    return task, [each for each in map(_attempt_of, rows) if each.number <= known]


def _is_shown(state: State) -> bool:
    return state is State.RUNNING or state.is_terminal


def _last_attempt_of(row: Row) -> Attempt:
    *fields, state, error = row
    return _attempt_of((*fields, state if State(state).is_terminal else None, error))


def _attempt_of(row: Row) -> Attempt:
    values = dict(zip(_ATTEMPT_FIELDS, row, strict=True))
    values["error"] = None if row[-1] is None else json.loads(row[-1])
    return Attempt(**values)


# --- many tasks ------------------------------------------------------------------------------

_FIRST = "~"  # sorts after every id
_ID = re.compile("[0-9a-v]{26}")
_OLDER = t.c.id < bindparam("cursor")
_OF_FUNCTION = t.c.function == bindparam("function")
_OF_SCHEDULE = t.c.schedule == bindparam("schedule")
_NEWEST_FIRST = t.c.id.desc()


def _paging(*conditions: ColumnElement[bool]) -> Statement:
    return Statement(limited(select(*_TASK).where(_OLDER, *conditions).order_by(_NEWEST_FIRST)))


def _paging_of_function() -> Statement:
    """The newest of each state, and of those the newest.

    So one index serves pages of a function with and without a state, and none is a long search.
    """
    newest = union_all(
        *(
            select(
                limited(
                    select(t.c.id)
                    .where(_OLDER, _OF_FUNCTION, t.c.state == literal(state))
                    .order_by(_NEWEST_FIRST)
                ).subquery()
            )
            for state in State
        )
    ).subquery()
    ids = limited(select(newest.c.id).order_by(newest.c.id.desc()))
    return Statement(select(*_TASK).where(t.c.id.in_(ids)).order_by(_NEWEST_FIRST))


_IN_STATE = t.c.state == bindparam("state")
_PAGES = {
    (False, False): _paging(),
    (True, False): _paging_of_function(),
    (False, True): _paging(_IN_STATE),
    (True, True): _paging(_OF_FUNCTION, _IN_STATE),
}
_PAGES_OF_SCHEDULE = {
    (False, False): _paging(_OF_SCHEDULE),
    (True, False): _paging(_OF_SCHEDULE, _OF_FUNCTION),
    (False, True): _paging(_OF_SCHEDULE, _IN_STATE),
    (True, True): _paging(_OF_SCHEDULE, _OF_FUNCTION, _IN_STATE),
}


def page(
    conn: Connection,
    *,
    function: str | None = None,
    state: State | None = None,
    schedule: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> tuple[list[Task], str | None]:
    """Up to ``limit`` tasks, newest first, and the cursor of the next page if there is one.

    Raises :class:`ValueError` for a cursor that no page gave.
    """
    if cursor is not None and not _ID.fullmatch(cursor):
        raise ValueError("no page has this cursor")
    params = {"function": function, "state": state and state.value, "schedule": schedule}
    pages = _PAGES if schedule is None else _PAGES_OF_SCHEDULE
    statement = pages[function is not None, state is not None]
    rows = conn.run(statement, {**params, "cursor": cursor or _FIRST, "limit": limit + 1})
    tasks = [task_of(row) for row in rows[:limit]]
    return tasks, tasks[-1].id if len(rows) > limit else None


_WAITING_ONES = limited(
    select(literal(1).label("one")).where(
        _OF_FUNCTION, t.c.state.in_([literal(State.QUEUED), literal(State.RETRYING)])
    )
).subquery()
_NUMBER_WAITING = Statement(select(func.count()).select_from(_WAITING_ONES))


def number_waiting(conn: Connection, function: str, at_most: int) -> int:
    """How many tasks of the function wait, delayed ones and those between two attempts included.

    Counts to ``at_most``.
    """
    return int(conn.run(_NUMBER_WAITING, {"function": function, "limit": at_most})[0][0])


_WAITING = (t.c.id, t.c.function, t.c.priority, t.c.created_at)
_NOW: BindParameter[float] = bindparam("now", type_=Double())
_IN_POOL = t.c.pool == bindparam("pool")
_IS_READY = t.c.ready == literal(1)


def _waiting(*conditions: ColumnElement[bool]) -> Statement:
    is_fresh = or_(t.c.expires_at.is_(None), t.c.expires_at > _NOW)
    found = select(*_WAITING).where(_IN_POOL, is_fresh, HAS_ROOM, *conditions)
    return Statement(limited(found.order_by(t.c.priority.desc(), t.c.id)))


def _functions() -> Statement:
    """The functions that have ready tasks: from one to the next, however many tasks each has."""
    first = select(func.min(t.c.function).label("name")).where(_IN_POOL, _IS_READY)
    found = first.cte("found", recursive=True)
    following = select(func.min(t.c.function)).where(
        _IN_POOL, _IS_READY, t.c.function > found.c.name
    )
    more = select(following.scalar_subquery()).where(found.c.name.is_not(None))
    found = found.union_all(more)
    return Statement(select(found.c.name).where(found.c.name.is_not(None)))


_FUNCTIONS = _functions()
_READY = _waiting(_IS_READY, t.c.function == bindparam("function"))
_DUE = _waiting(t.c.ready == literal(0), t.c.available_at <= _NOW)


def waiting(conn: Connection, pool: str, now: float, each: int) -> list[WaitingTask]:
    """What may be claimed in ``pool``: of every function its first ``each``.

    Not those of which as many run as may at once.

    The first are those of the highest priority, then the oldest, and so is the list ordered. Of
    retries and delayed tasks that have just come due there are ``each`` in all.
    """
    params = {"pool": pool, "now": now, "limit": each}
    functions = [{**params, "function": name} for (name,) in conn.run(_FUNCTIONS, params)]
    rows = [row for found in conn.run_each(_READY, functions) for row in found]
    rows += conn.run(_DUE, params)
    rows.sort(key=lambda row: (-row[2], row[0]))
    return [WaitingTask(*row) for row in rows]


_RUNNING_ON = Statement(
    select(t.c.id, t.c.attempt).where(
        t.c.state == literal(State.RUNNING), t.c.host == bindparam("host")
    )
)


def running(conn: Connection, host: str) -> list[tuple[str, int]]:
    """Id and attempt of every task that ``host`` is held to run."""
    return [(task_id, attempt) for task_id, attempt in conn.run(_RUNNING_ON, {"host": host})]


_COUNTS = Statement(
    union_all(
        select(t.c.pool, literal(State.QUEUED), func.count())
        .where(t.c.ready == literal(1))
        .group_by(t.c.pool),
        select(t.c.pool, t.c.state, func.count())
        .where(t.c.ready == literal(0))
        .group_by(t.c.pool, t.c.state),
        select(t.c.pool, literal(State.RUNNING), func.count())
        .where(t.c.state == literal(State.RUNNING))
        .group_by(t.c.pool),
    )
)


def counts(conn: Connection) -> dict[tuple[str, State], int]:
    """How many tasks of each pool are queued, retrying and running."""
    found: dict[tuple[str, State], int] = {}
    for pool, state, number in conn.run(_COUNTS, {}):
        key = (pool, State(state))
        found[key] = found.get(key, 0) + number
    return found
