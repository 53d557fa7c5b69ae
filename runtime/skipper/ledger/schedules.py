"""Schedules: who declares them, when they are due next, which tasks they make.

Hosts declare what functions and settings ask for, users pause and resume, schedulers move a
schedule from tick to tick. There are as many rows as schedules, so they are read whole; whoever
changes several does so in the order of their names, so that no two wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Double,
    Text,
    and_,
    bindparam,
    case,
    delete,
    null,
    or_,
    select,
    update,
)

from skipper.cron import Overlap
from skipper.failpoints import failpoint
from skipper.ledger.accepting import accept_all
from skipper.ledger.connection import Connection, Insert, Row, Statement, literal
from skipper.ledger.families import cancel_all
from skipper.ledger.records import Accepted, Declaration, Firing, NewTask, Refusal, Schedule
from skipper.ledger.schema import schedules as s
from skipper.ledger.schema import tasks as t
from skipper.task import new_id
from skipper.values.value import Value

_DECLARED = tuple(field.name for field in fields(Declaration))
_STATE = ("is_paused", "next_at", "last_at", "last_task_id", "gone_at")
_ROW = [s.c[name] for name in (*_DECLARED, *_STATE)]
_BY_NAME = s.c.name == bindparam("name")
_IS_THERE = s.c.gone_at.is_(None)
_NOW: BindParameter[float] = bindparam("now", type_=Double())
_NEXT: BindParameter[float] = bindparam("next_at", type_=Double())
_KEY = " tick "
"""Parts the name and the tick in an idempotency key. Callers' own keys hold no spaces."""


# --- what is declared ------------------------------------------------------------------------


def _declaring(insert: Insert) -> Insert:
    new = insert.excluded
    is_restart = or_(s.c.cron != new.cron, s.c.timezone != new.timezone, s.c.gone_at.is_not(None))
    kept = {name: new[name] for name in _DECLARED if name != "name"}
    return insert.on_conflict_do_update(
        index_elements=["name"],
        set_={
            **kept,
            "gone_at": null(),
            # The latest wish counts: a changed declaration, or who paused or resumed it.
            "is_paused": case(
                (s.c.starts_paused != new.starts_paused, new.starts_paused), else_=s.c.is_paused
            ),
            "next_at": case((is_restart, null()), else_=s.c.next_at),
        },
    )


_DECLARE = Statement(lambda insert: _declaring(insert(s)), (*_DECLARED, "is_paused"))
_DROP = Statement(
    update(s)
    .where(_BY_NAME, s.c.pool == bindparam("pool"), _IS_THERE)
    .values(gone_at=_NOW, next_at=null())
)
_FORGET = Statement(delete(s).where(s.c.gone_at < bindparam("before", type_=Double())))


def declare(conn: Connection, declared: Iterable[Declaration]) -> None:
    """Write down what is new or has changed. When it is due next is a scheduler's to find."""
    rows = sorted(map(_declaration, declared), key=lambda row: str(row["name"]))
    conn.run_each(_DECLARE, rows)


def _declaration(declared: Declaration) -> dict[str, Any]:
    is_paused = int(declared.starts_paused)
    return asdict(declared) | {"starts_paused": is_paused, "is_paused": is_paused}


def drop(conn: Connection, pool: str, names: Iterable[str], now: float) -> None:
    """Have schedules of ``pool`` rest that nobody declares any more.

    A pause, and what ran last, is remembered until :func:`forget`. One that another pool declares
    by now is left alone.
    """
    conn.run_each(_DROP, [{"name": name, "pool": pool, "now": now} for name in sorted(names)])


def forget(conn: Connection, before: float) -> None:
    """Delete what has been gone since before ``before``."""
    conn.run(_FORGET, {"before": before})


# --- looking ---------------------------------------------------------------------------------

_PRESENT = Statement(select(*_ROW).where(_IS_THERE).order_by(s.c.name))
_GET = Statement(select(*_ROW).where(_BY_NAME, _IS_THERE))
_ACTIVE = and_(_IS_THERE, s.c.is_paused == literal(0))
_IS_DUE = or_(s.c.next_at.is_(None), s.c.next_at <= _NOW)
_DUE = Statement(select(*_ROW).where(_ACTIVE, _IS_DUE).order_by(s.c.name))
_LIVE = Statement(select(*_ROW).where(_ACTIVE).order_by(s.c.name))


def present(conn: Connection) -> list[Schedule]:
    """The schedules that are declared, by name."""
    return [_schedule_of(row) for row in conn.run(_PRESENT, {})]


def get(conn: Connection, name: str) -> Schedule | None:
    """The schedule, or None if nobody declares one of this name."""
    rows = conn.run(_GET, {"name": name})
    return _schedule_of(rows[0]) if rows else None


def due(conn: Connection, now: float) -> list[Schedule]:
    """The schedules to be moved on: a tick has come, or none is known yet."""
    return [_schedule_of(row) for row in conn.run(_DUE, {"now": now})]


def live(conn: Connection) -> list[Schedule]:
    """The schedules that are neither paused nor gone."""
    return [_schedule_of(row) for row in conn.run(_LIVE, {})]


def _schedule_of(row: Row) -> Schedule:
    values = dict(zip((*_DECLARED, *_STATE), row, strict=True))
    for name in ("starts_paused", "is_paused"):
        values[name] = bool(values[name])
    values["body"] = bytes(values["body"])
    declared = Declaration(**{name: values.pop(name) for name in _DECLARED})
    return Schedule(declared=declared, **values)


# --- moving on -------------------------------------------------------------------------------

_ADVANCE = Statement(
    update(s)
    .where(
        _BY_NAME,
        _ACTIVE,
        s.c.cron == bindparam("cron"),
        s.c.timezone == bindparam("timezone"),
        s.c.next_at.is_not_distinct_from(bindparam("seen", type_=Double())),
    )
    .values(next_at=_NEXT)
    .returning(s.c.name)
)
_RECORD_RUN = Statement(
    update(s).where(_BY_NAME).values(last_at=_NOW, last_task_id=bindparam("task_id", type_=Text()))
)
_HOLD = Statement(select(*_ROW).where(_BY_NAME, _IS_THERE).with_for_update())
_PAUSE = Statement(
    update(s).where(_BY_NAME, _IS_THERE).values(is_paused=literal(1), next_at=null())
)
_RESUME = Statement(
    update(s)
    .where(_BY_NAME, _IS_THERE, s.c.is_paused == literal(1))
    .values(is_paused=literal(0), next_at=null())
)


_GOING_ON = Statement(
    select(t.c.id).where(t.c.schedule == bindparam("name"), t.c.finished_at.is_(None))
)
AcceptAll = Callable[[Connection, Sequence[NewTask]], list[Accepted]]


def fire(conn: Connection, firing: Firing, accept_all: AcceptAll = accept_all) -> list[Accepted]:
    """Move a schedule on and accept its tasks; none if it is not as it was when somebody looked.

    So of several schedulers that saw the same tick one makes its task. A tick that had its task
    before, by a clock that has gone back since, is not given another. One that is refused has none.
    While the last run goes on, ``overlap`` counts: the schedule stays where it is and is due again,
    the tick is refused, that run is cancelled, or nothing of it.
    """
    schedule = firing.schedule
    declared = schedule.declared
    going_on, overlap = _going_on(conn, firing), declared.overlap
    if going_on and overlap == Overlap.QUEUE:
        return []
    expected = {"cron": declared.cron, "timezone": declared.timezone, "seen": schedule.next_at}
    params = {"name": declared.name, "next_at": firing.next_at, **expected}
    if not conn.run(_ADVANCE, params):
        return []
    if going_on and overlap == Overlap.SKIP:
        return [Accepted(id=task.id, refusal=Refusal.OVERLAP) for task in firing.tasks]
    if going_on:
        cancel_all(conn, going_on, firing.tasks[-1].created_at)
    accepted = accept_all(conn, firing.tasks)
    made = [task for task, each in zip(firing.tasks, accepted, strict=True) if each.is_new]
    if made:
        _record_run(conn, made[-1])
        failpoint("ledger.tick.written")
    return accepted


def _going_on(conn: Connection, firing: Firing) -> list[str]:
    """Ids of the schedule's runs that have not ended, where the next may not run beside them."""
    declared = firing.schedule.declared
    if not firing.tasks or declared.overlap == Overlap.ALLOW:
        return []
    return [task_id for (task_id,) in conn.run(_GOING_ON, {"name": declared.name})]


def run_now(
    conn: Connection, name: str, now: float, accept_all: AcceptAll = accept_all
) -> NewTask | Refusal | None:
    """Accept a task of the schedule, whatever its ticks; None if there is no such schedule."""
    rows = conn.run(_HOLD, {"name": name})
    if not rows:
        return None
    new = task_of(_schedule_of(rows[0]), now)
    (accepted,) = accept_all(conn, [new])
    if accepted.refusal is not None:
        return accepted.refusal
    _record_run(conn, new)
    failpoint("ledger.run_now.written")
    return new


def pause(conn: Connection, name: str) -> Schedule | None:
    """Let no tick of it come true until it is resumed. None if there is no such schedule."""
    conn.run(_PAUSE, {"name": name})
    return get(conn, name)


def resume(conn: Connection, name: str) -> Schedule | None:
    """Have it go on with its next tick. None if there is no such schedule."""
    conn.run(_RESUME, {"name": name})
    return get(conn, name)


def _record_run(conn: Connection, new: NewTask) -> None:
    params = {"name": new.schedule, "task_id": new.id, "now": new.created_at}
    conn.run(_RECORD_RUN, params)


def task_of(schedule: Schedule, now: float, tick: float | None = None) -> NewTask:
    """A task of the schedule. That of a tick is asked for by its time, and there is one of it."""
    declared = schedule.declared
    at = None if tick is None else f"{datetime.fromtimestamp(tick, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return NewTask(
        id=new_id(),
        function=declared.function,
        kind=declared.kind,
        pool=declared.pool,
        input=Value(inline=declared.body),
        max_attempts=declared.max_attempts,
        timeout_s=declared.timeout_s,
        priority=declared.priority,
        expires_at=None if declared.expires_s is None else now + declared.expires_s,
        created_at=now,
        available_at=now,
        request_id=at,
        schedule=declared.name,
        concurrency=declared.concurrency,
        concurrency_key=declared.concurrency_key,
        idempotency_key=None if at is None else f"{declared.name}{_KEY}{at}",
    )


def tasks_of(schedule: Schedule, ticks: Sequence[float], now: float) -> tuple[NewTask, ...]:
    """The task of each of these ticks."""
    return tuple(task_of(schedule, now, tick) for tick in ticks)
