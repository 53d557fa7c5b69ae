"""Everything that changes a task's state, and the ways to look at tasks.

Each change is a compare-and-set: one statement whose condition is the state it starts from, so that
of several processes that try exactly one succeeds. A running task belongs to one attempt of one
host; whoever names an older attempt changes nothing. The operations that hosts and gateways do most
come in two forms, for one item and, for :meth:`~skipper.ledger.ledger.Ledger.merge`, for many.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Double,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    not_,
    null,
    or_,
    select,
    true,
    update,
)

from skipper.failpoints import failpoint
from skipper.ledger import bounds, families, parts, totals
from skipper.ledger.accepting import accept, accept_all, requeue
from skipper.ledger.connection import Connection, Row, Statement, among, literal, locked
from skipper.ledger.families import cancel
from skipper.ledger.records import Claim, Claiming, Ending, Finishing, Released, Started
from skipper.ledger.schema import attempts as attempt_table
from skipper.ledger.schema import tasks as t
from skipper.ledger.sweeps import due, expire, unpublished
from skipper.ledger.usage import size_of
from skipper.ledger.values import columns, value_of
from skipper.ledger.views import (
    TASK_FIELDS,
    attempts,
    counts,
    get,
    history,
    number_waiting,
    page,
    result,
    running,
    stored_result,
    task_of,
    waiting,
)
from skipper.outcomes import Outcome, stored_error
from skipper.task import LOST, RELEASED, State
from skipper.values.value import Value

__all__ = [
    "MAX_LOSSES",
    "accept",
    "accept_all",
    "attempts",
    "cancel",
    "claim",
    "claim_all",
    "counts",
    "due",
    "expire",
    "finish",
    "finish_all",
    "get",
    "history",
    "number_waiting",
    "page",
    "release",
    "requeue",
    "result",
    "running",
    "started",
    "stored_result",
    "unpublished",
    "waiting",
]

MAX_LOSSES = 20
"""How many hosts a task may lose before it is held to be what kills them."""

_RUNNING = t.c.state == literal(State.RUNNING)
_NOW: BindParameter[float] = bindparam("now", type_=Double())
_ZERO, _ONE = literal(0), literal(1)

# --- claim -----------------------------------------------------------------------------------

_INPUT = (t.c.body, t.c.body_ref, t.c.body_type)
_ID = TASK_FIELDS.index("id")
_CLAIMED = (*(t.c[name] for name in TASK_FIELDS), t.c.spent, t.c.depth, *_INPUT)


def _claiming(which: ColumnElement[bool]) -> Statement:
    wanted = select(t.c.id).where(among(t.c.id, "ids"), which, bounds.IS_CLAIMABLE)
    return Statement(
        update(t)
        .where(t.c.id.in_(locked(wanted)))
        .values(
            state=literal(State.RUNNING),
            attempt=t.c.attempt + _ONE,
            host=bindparam("host"),
            started_at=_NOW,
            deadline_at=_NOW + t.c.timeout_s,
            ready=null(),
            expires_at=null(),
            instance=null(),
            code=null(),
            model=null(),
            error=null(),
        )
        .returning(*_CLAIMED)
    )


_CLAIM = _claiming(bounds.IS_UNBOUNDED)
_CLAIM_BOUNDED = _claiming(bounds.IS_BOUNDED)


def claim(conn: Connection, ids: Sequence[str], host: str, now: float) -> list[Claim]:
    """Give ``host`` a new attempt of each of these tasks that waits; the others are left out.

    So are those of which as many run, over all hosts, as may.
    """
    params = {"host": host, "now": now}
    rows = conn.run(_CLAIM, {**params, "ids": conn.ids(ids)})
    if len(rows) < len(ids):
        taken = {row[_ID] for row in rows}
        others = [task_id for task_id in ids if task_id not in taken]
        if passed := bounds.admitted(conn, others, now):
            rows += conn.run(_CLAIM_BOUNDED, {**params, "ids": conn.ids(passed)})
    failpoint("ledger.claim.written")
    found = {claim.task.id: claim for claim in map(_claim_of, rows)}
    return [found[task_id] for task_id in dict.fromkeys(ids) if task_id in found]


def claim_all(conn: Connection, claimings: Sequence[Claiming]) -> list[list[Claim]]:
    """:func:`claim` for many. Of two that name one task the first gets it."""
    found: dict[tuple[str, str], Claim] = {}
    for host in dict.fromkeys(claiming.host for claiming in claimings):
        own = [claiming for claiming in claimings if claiming.host == host]
        ids = [task_id for claiming in own for task_id in claiming.ids]
        for claimed in claim(conn, ids, host, max(claiming.now for claiming in own)):
            found[host, claimed.task.id] = claimed
    return [
        [found.pop((each.host, one)) for one in each.ids if (each.host, one) in found]
        for each in claimings
    ]


def _claim_of(row: Row) -> Claim:
    *fields, spent, depth, body, body_ref, body_type = row
    task = task_of(fields)
    given = value_of(body, body_ref, body_type) or Value(inline=b"")
    return Claim(task=task, attempt=task.attempt, spent=spent, depth=depth, input=given)


# --- while it runs ---------------------------------------------------------------------------

_OWNED = and_(
    t.c.id == bindparam("id"),
    # Written so that only the primary key's index fits: the host's may look cheap to PostgreSQL.
    and_(t.c.attempt == bindparam("attempt"), t.c.host == bindparam("host"), _RUNNING).is_(true()),
)


def _known(name: str) -> ColumnElement[Any]:
    return func.coalesce(bindparam(name, type_=Text()), t.c[name])


_STARTED = Statement(
    update(t)
    .where(_OWNED)
    .values(
        **{name: _known(name) for name in ("instance", "code", "model")},
        deadline_at=func.coalesce(bindparam("deadline_at", type_=Double()), t.c.deadline_at),
    )
    .returning(t.c.id)
)


def started(conn: Connection, started: Started) -> bool:
    """Record what runs the attempt, once that is known. False: the task is no longer its own."""
    return bool(conn.run(_STARTED, asdict(started)))


# --- finish ----------------------------------------------------------------------------------

_ATTEMPT_FIELDS = ("number", "host", "instance", "started_at", "code", "model")
_ATTEMPT = (t.c.attempt, *(t.c[name] for name in _ATTEMPT_FIELDS[1:]))
_KEEP_ATTEMPT = Statement(insert(attempt_table), [column.name for column in attempt_table.columns])
_ENDS: dict[str, Any] = {
    "spent": t.c.spent + _ONE,
    "error": bindparam("error"),
    **{name: _known(name) for name in ("instance", "code", "model")},
}
_END = Statement(
    update(t)
    .where(_OWNED)
    .values(
        **_ENDS,
        state=bindparam("state"),
        finished_at=_NOW,
        result=bindparam("result"),
        result_ref=bindparam("result_ref"),
        result_size=bindparam("result_size"),
        result_type=bindparam("result_type"),
    )
    .returning(t.c.id, t.c.function, t.c.pool)
)
_END_CANCELLED = Statement(
    update(t)
    .where(_OWNED, t.c.cancel_requested == _ONE)
    .values(**_ENDS, state=literal(State.CANCELLED), finished_at=_NOW)
    .returning(t.c.id, t.c.function, t.c.pool)
)
_RETRY = Statement(
    update(t)
    .where(_OWNED, t.c.cancel_requested == _ZERO, t.c.spent + _ONE < t.c.max_attempts)
    .values(
        **_ENDS,
        state=literal(State.RETRYING),
        ready=_ZERO,
        available_at=bindparam("retry_at"),
        deadline_at=null(),
    )
    .returning(*_ATTEMPT)
)


def finish(  # noqa: PLR0917 - the first three name one thing, the run that ends
    conn: Connection, task_id: str, attempt: int, host: str, ending: Ending, now: float
) -> State | None:
    """End an attempt; the state that the task reached. None: the attempt no longer owns the task.

    With ``ending.retry_at`` the task is retried if it has attempts left. If it has none it ends as
    ``ending.state`` has it, and if a cancel was asked for meanwhile it ends cancelled.
    """
    finishing = Finishing(id=task_id, attempt=attempt, host=host, ending=ending, now=now)
    return finish_all(conn, [finishing])[0]


def finish_all(conn: Connection, finishings: Sequence[Finishing]) -> list[State | None]:
    """:func:`finish` for many."""
    simple = [each for each in finishings if each.ending.retry_at is None]
    ended = iter(conn.run_each(_END, [_ending(each) for each in simple]))
    return [
        _retry(conn, each) if each.ending.retry_at is not None else _ended(conn, next(ended), each)
        for each in finishings
    ]


def _retry(conn: Connection, finishing: Finishing) -> State | None:
    params, outcome = _ending(finishing), finishing.ending.state
    kept = conn.run(_RETRY, params)
    if kept:
        _keep_attempts(conn, [(finishing.id, row) for row in kept], outcome, params)
        failpoint("ledger.retry.written")
        return State.RETRYING
    return _reached(conn, conn.run(_END_CANCELLED, params), State.CANCELLED) or _ended(
        conn, conn.run(_END, params), finishing
    )


def _ending(finishing: Finishing) -> dict[str, Any]:
    ending = finishing.ending
    return {
        "id": finishing.id,
        "attempt": finishing.attempt,
        "host": finishing.host,
        "now": finishing.now,
        "state": ending.state.value,
        **columns("result", ending.result),
        "error": None if ending.error is None else json.dumps(ending.error),
        "code": ending.code,
        "model": ending.model,
        "instance": ending.instance,
        "retry_at": ending.retry_at,
    }


def _ended(conn: Connection, rows: list[Row], finishing: Finishing) -> State | None:
    ending = finishing.ending
    if rows:
        parts.add(conn, [(finishing.id, "result", ending.result)])
        parts.add_rescue(conn, finishing.id, ending.rescue)
        conn.stored += size_of(ending.result)
    return _reached(conn, rows, ending.state)


def _reached(conn: Connection, rows: list[Row], state: State) -> State | None:
    totals.count(conn, rows, state)
    if state is State.CANCELLED:
        for row in rows:
            families.tell(conn, row[0])
    failpoint("ledger.finish.written")
    return state if rows else None


def _keep_attempts(
    conn: Connection, rows: Sequence[tuple[str, Row]], outcome: str, params: dict[str, Any]
) -> None:
    """Write down attempts whose tasks go on without them."""
    end = {"ended_at": params["now"], "outcome": outcome, "error": params.get("error")}
    conn.run_each(
        _KEEP_ATTEMPT,
        [
            {"task_id": task_id, **dict(zip(_ATTEMPT_FIELDS, row, strict=True)), **end}
            for task_id, row in rows
        ],
    )


# --- release ---------------------------------------------------------------------------------

_TOO_MANY = t.c.losses + bindparam("loss", type_=Integer()) > literal(MAX_LOSSES)
_CANCELLED = t.c.cancel_requested == _ONE


def _release(*conditions: ColumnElement[bool]) -> Statement:
    return Statement(
        update(t)
        .where(_RUNNING, t.c.host == bindparam("host"), *conditions)
        .values(
            state=case(
                (_CANCELLED, literal(State.CANCELLED)),
                (_TOO_MANY, literal(State.CRASHED)),
                else_=literal(State.QUEUED),
            ),
            ready=case((not_(or_(_CANCELLED, _TOO_MANY)), _ONE)),
            losses=t.c.losses + bindparam("loss", type_=Integer()),
            finished_at=case((or_(_CANCELLED, _TOO_MANY), _NOW)),
            error=case((and_(not_(_CANCELLED), _TOO_MANY), bindparam("error", type_=Text()))),
            published_at=_NOW,
            deadline_at=null(),
        )
        .returning(t.c.id, t.c.function, t.c.pool, t.c.state, *_ATTEMPT)
    )


_RELEASE = _release(among(t.c.id, "ids"))
_RELEASE_ALL = _release()
_LOST_TOO_OFTEN = json.dumps(
    stored_error(
        Outcome.DIED,
        {
            "title": "The task's hosts kept dying",
            "detail": f"More than {MAX_LOSSES} hosts died or vanished while they ran it.",
        },
    )
)


def release(
    conn: Connection, host: str, ids: Sequence[str] | None, now: float, *, lost: bool
) -> list[Released]:
    """Take tasks (None: all) from ``host``. They wait again, and their function is not to blame.

    What was to be cancelled is cancelled. A task that lost more than ``MAX_LOSSES`` hosts
    (``lost=True``; a clean shutdown is no loss) is crashed.
    """
    params = {"host": host, "loss": int(lost), "now": now, "error": _LOST_TOO_OFTEN}
    if ids is None:
        rows = conn.run(_RELEASE_ALL, params)
    else:
        rows = conn.run(_RELEASE, {**params, "ids": conn.ids(ids)})
    kept = [(row[0], row[4:]) for row in rows]
    _keep_attempts(conn, kept, LOST if lost else RELEASED, {"now": now})
    return [_released(conn, *row[:4]) for row in rows]


def _released(conn: Connection, task_id: str, function: str, pool: str, value: str) -> Released:
    state = State(value)
    if state.is_terminal:
        totals.count(conn, [(task_id, function, pool)], state)
    if state is State.CANCELLED:
        families.tell(conn, task_id)
    return Released(id=task_id, pool=pool, state=state)
