"""Everything that changes a task's state, and the ways to look at tasks.

Each change is a compare-and-set: one statement whose condition is the state it starts from, so that
of several processes that try exactly one succeeds. A running task belongs to one attempt of one
host; whoever names an older attempt changes nothing. The operations that hosts and gateways do most
come in two forms, for one item and, for :meth:`~skipper.ledger.ledger.Ledger.merge`, for many.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Double,
    Integer,
    Select,
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

from skipper.ledger.connection import Connection, Row, Statement, Total, among, limited, literal
from skipper.ledger.records import (
    Accepted,
    Cancelling,
    Claim,
    Claiming,
    Ending,
    Finishing,
    NewTask,
    Released,
)
from skipper.ledger.schema import attempts as attempt_table
from skipper.ledger.schema import tasks as t
from skipper.ledger.views import (
    ENDED,
    TASK_FIELDS,
    attempts,
    counts,
    get,
    page,
    result,
    running,
    task_of,
    waiting,
)
from skipper.task import State, new_id

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
    "page",
    "release",
    "requeue",
    "result",
    "running",
    "started",
    "unpublished",
    "waiting",
]

MAX_LOSSES = 20
"""How many hosts a task may lose before it is held to be what kills them."""

_QUEUED = t.c.state == literal(State.QUEUED)
_RUNNING = t.c.state == literal(State.RUNNING)
_NOW: BindParameter[float] = bindparam("now", type_=Double())
_ZERO, _ONE = literal(0), literal(1)
_FRESH = {
    "state": literal(State.QUEUED),
    "attempt": _ZERO,
    "spent": _ZERO,
    "losses": _ZERO,
    "cancel_requested": _ZERO,
}

# --- accept ----------------------------------------------------------------------------------

_NEW_FIELDS = tuple(NewTask.__dataclass_fields__)
_GIVEN = (*_NEW_FIELDS, "timed", "published_at")
_HAS_KEY = t.c.idempotency_key.is_not(None)
_ACCEPT = Statement(
    lambda insert: insert(t).values(_FRESH).on_conflict_do_nothing(index_elements=[t.c.id]),
    _GIVEN,
)
_ACCEPT_KEYED = Statement(
    lambda insert: (
        insert(t)
        .values(_FRESH)
        .on_conflict_do_nothing(index_elements=[t.c.idempotency_key], index_where=_HAS_KEY)
        .returning(t.c.id)
    ),
    _GIVEN,
)
_BY_KEY = Statement(
    select(t.c.id, t.c.idempotency_hash).where(t.c.idempotency_key == bindparam("key"))
)


def accept(conn: Connection, new: NewTask) -> Accepted:
    """Write a task as queued, unless its idempotency key is known."""
    return accept_all(conn, [new])[0]


def accept_all(conn: Connection, news: Sequence[NewTask]) -> list[Accepted]:
    """:func:`accept` for many."""
    conn.run_each(_ACCEPT, [_accepting(new) for new in news if new.idempotency_key is None])
    return [
        Accepted(id=new.id) if new.idempotency_key is None else _accept_keyed(conn, new)
        for new in news
    ]


def _accept_keyed(conn: Connection, new: NewTask) -> Accepted:
    while not conn.run(_ACCEPT_KEYED, _accepting(new)):
        for task_id, seen in conn.run(_BY_KEY, {"key": new.idempotency_key}):
            return Accepted(id=task_id, is_new=False, matches=seen == new.idempotency_hash)
    return Accepted(id=new.id)


def _accepting(new: NewTask) -> dict[str, Any]:
    is_delayed = new.available_at > new.created_at
    values = {name: getattr(new, name) for name in _NEW_FIELDS}  # asdict() would copy deeply
    return {**values, "timed": int(is_delayed), "published_at": new.created_at}


_COPIED = ["function", "kind", "pool", "max_attempts", "priority", "depth", "timeout_s"]
_COPIED += ["body_ref", "body"]
_SOURCE = t.alias("source")
_REQUEUE = Statement(
    insert(t)
    .from_select(
        ["id", "created_at", "available_at", "published_at", "timed", *_FRESH, *_COPIED],
        select(
            bindparam("new_id", type_=Text()),
            *[_NOW] * 3,
            _ZERO,
            *_FRESH.values(),
            *(_SOURCE.c[name] for name in _COPIED),
        ).where(_SOURCE.c.id == bindparam("id"), _SOURCE.c.state.in_(ENDED)),
    )
    .returning(t.c.id)
)


def requeue(conn: Connection, task_id: str, now: float) -> str | None:
    """Accept a copy of a task that has ended; its id, or None if there is no such ended task."""
    rows = conn.run(_REQUEUE, {"id": task_id, "new_id": new_id(), "now": now})
    return rows[0][0] if rows else None


# --- claim -----------------------------------------------------------------------------------

_CLAIMED = (*(t.c[name] for name in TASK_FIELDS), t.c.spent, t.c.depth, t.c.body, t.c.body_ref)
_CLAIMABLE = and_(
    or_(_QUEUED, t.c.state == literal(State.RETRYING)),
    # Clocks of two machines differ: only a task that was told to wait is measured by this one's.
    or_(t.c.timed == _ZERO, t.c.available_at <= _NOW),
)


def _picked(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The rows that ``conditions`` select and that nobody is changing just now."""
    return _locked(select(t.c.id).where(*conditions))


def _locked(rows: Select[Any]) -> ColumnElement[bool]:
    # In a WITH of its own: a plain subquery may run, and lock rows, more than once in PostgreSQL.
    picked = rows.with_for_update(skip_locked=True).cte("picked")
    return t.c.id.in_(select(picked.c.id))


_CLAIM = Statement(
    update(t)
    .where(_picked(among(t.c.id, "ids"), _CLAIMABLE))
    .values(
        state=literal(State.RUNNING),
        attempt=t.c.attempt + _ONE,
        host=bindparam("host"),
        started_at=_NOW,
        deadline_at=_NOW + t.c.timeout_s,
        timed=_ZERO,
        expires_at=null(),
        instance=null(),
        code=null(),
        model=null(),
        error=null(),
    )
    .returning(*_CLAIMED)
)


def claim(conn: Connection, ids: Sequence[str], host: str, now: float) -> list[Claim]:
    """Give ``host`` a new attempt of each of these tasks that waits; the others are left out."""
    rows = conn.run(_CLAIM, {"ids": conn.ids(ids), "host": host, "now": now})
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
    *fields, spent, depth, body, body_ref = row
    task = task_of(fields)
    return Claim(
        task=task, attempt=task.attempt, spent=spent, depth=depth, body=body, body_ref=body_ref
    )


# --- while it runs ---------------------------------------------------------------------------

_OWNED = and_(
    t.c.id == bindparam("id"),
    # Said so that only the primary key's index fits: the host's may look cheap to PostgreSQL.
    and_(t.c.attempt == bindparam("attempt"), t.c.host == bindparam("host"), _RUNNING).is_(true()),
)


def _known(name: str) -> ColumnElement[Any]:
    return func.coalesce(bindparam(name, type_=Text()), t.c[name])


_STARTED = Statement(
    update(t)
    .where(_OWNED)
    .values({name: _known(name) for name in ("instance", "code", "model")})
    .returning(t.c.id)
)


def started(
    conn: Connection,
    task_id: str,
    attempt: int,
    host: str,
    *,
    instance: str | None = None,
    code: str | None = None,
    model: str | None = None,
) -> bool:
    """Note what runs the attempt, once that is known. False: the task is no longer its own."""
    details = {"instance": instance, "code": code, "model": model}
    return bool(conn.run(_STARTED, {"id": task_id, "attempt": attempt, "host": host, **details}))


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
    )
    .returning(t.c.function, t.c.pool)
)
_END_CANCELLED = Statement(
    update(t)
    .where(_OWNED, t.c.cancel_requested == _ONE)
    .values(**_ENDS, state=literal(State.CANCELLED), finished_at=_NOW)
    .returning(t.c.function, t.c.pool)
)
_RETRY = Statement(
    update(t)
    .where(_OWNED, t.c.cancel_requested == _ZERO, t.c.spent + _ONE < t.c.max_attempts)
    .values(
        **_ENDS,
        state=literal(State.RETRYING),
        timed=_ONE,
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
    ``ending.state`` says, and if a cancel was asked for meanwhile it ends cancelled.
    """
    finishing = Finishing(id=task_id, attempt=attempt, host=host, ending=ending, now=now)
    return finish_all(conn, [finishing])[0]


def finish_all(conn: Connection, finishings: Sequence[Finishing]) -> list[State | None]:
    """:func:`finish` for many."""
    simple = [each for each in finishings if each.ending.retry_at is None]
    ended = iter(conn.run_each(_END, [_ending(each) for each in simple]))
    return [
        _retry(conn, each)
        if each.ending.retry_at is not None
        else _reached(conn, next(ended), each.ending.state)
        for each in finishings
    ]


def _retry(conn: Connection, finishing: Finishing) -> State | None:
    params, outcome = _ending(finishing), finishing.ending.state
    kept = conn.run(_RETRY, params)
    if kept:
        _keep_attempts(conn, [(finishing.id, row) for row in kept], outcome, params)
        return State.RETRYING
    return _reached(conn, conn.run(_END_CANCELLED, params), State.CANCELLED) or _reached(
        conn, conn.run(_END, params), outcome
    )


def _ending(finishing: Finishing) -> dict[str, Any]:
    ending = finishing.ending
    return {
        "id": finishing.id,
        "attempt": finishing.attempt,
        "host": finishing.host,
        "now": finishing.now,
        "state": ending.state.value,
        "result": ending.result,
        "result_ref": ending.result_ref,
        "error": None if ending.error is None else json.dumps(ending.error),
        "code": ending.code,
        "model": ending.model,
        "instance": ending.instance,
        "retry_at": ending.retry_at,
    }


def _reached(conn: Connection, rows: list[Row], state: State) -> State | None:
    """Count the tasks that ``rows`` (function, pool) say have reached ``state``."""
    for function, pool in rows:
        conn.ended[Total(function, pool, state.value)] += 1
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
    {
        "title": "The task's hosts kept dying",
        "detail": f"More than {MAX_LOSSES} hosts died or vanished while they ran it.",
    }
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
    _keep_attempts(conn, kept, "lost" if lost else "released", {"now": now})
    return [_released(conn, *row[:4]) for row in rows]


def _released(conn: Connection, task_id: str, function: str, pool: str, value: str) -> Released:
    state = State(value)
    if state.is_terminal:
        conn.ended[Total(function, pool, value)] += 1
    return Released(id=task_id, pool=pool, state=state)


# --- cancel ----------------------------------------------------------------------------------

_LOOK = Statement(
    select(t.c.state, t.c.host, t.c.function, t.c.pool)
    .where(t.c.id == bindparam("id"))
    .with_for_update()
)
_CANCEL_WAITING = Statement(
    update(t)
    .where(t.c.id == bindparam("id"))
    .values(state=literal(State.CANCELLED), finished_at=_NOW, timed=_ZERO)
)
_CANCEL_RUNNING = Statement(
    update(t).where(t.c.id == bindparam("id")).values(cancel_requested=_ONE)
)


def cancel(conn: Connection, task_id: str, now: float) -> Cancelling | None:
    """Cancel what waits, ask for it where it runs, leave what has ended. None: no such task."""
    rows = conn.run(_LOOK, {"id": task_id})
    if not rows:
        return None
    value, host, function, pool = rows[0]
    state = State(value)
    if state.is_terminal:
        return Cancelling(state=state, already_ended=True)
    if state is State.RUNNING:
        conn.run(_CANCEL_RUNNING, {"id": task_id})
        return Cancelling(state=state, host=host)
    conn.run(_CANCEL_WAITING, {"id": task_id, "now": now})
    _reached(conn, [(function, pool)], State.CANCELLED)
    return Cancelling(state=State.CANCELLED)


# --- what the scheduler does to many -----------------------------------------------------------


def _first(order: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The first ``limit`` rows, by ``order``, that nobody is changing just now."""
    return _locked(limited(select(t.c.id).where(*conditions).order_by(order)))


_UNPUBLISHED = Statement(
    update(t)
    .where(
        _first(
            t.c.published_at,
            _QUEUED,
            t.c.timed == _ZERO,
            t.c.published_at < bindparam("older_than", type_=Double()),
        )
    )
    .values(published_at=_NOW)
    .returning(t.c.id, t.c.pool)
)
_DUE = Statement(
    update(t)
    .where(_first(t.c.available_at, t.c.timed == _ONE, t.c.available_at <= _NOW))
    .values(state=literal(State.QUEUED), timed=_ZERO, published_at=_NOW)
    .returning(t.c.id, t.c.pool)
)
_EXPIRE = Statement(
    update(t)
    .where(_first(t.c.expires_at, _QUEUED, t.c.expires_at.is_not(None), t.c.expires_at <= _NOW))
    .values(state=literal(State.EXPIRED), finished_at=_NOW, timed=_ZERO)
    .returning(t.c.id, t.c.function, t.c.pool)
)


def unpublished(
    conn: Connection, older_than: float, now: float, limit: int
) -> list[tuple[str, str]]:
    """Id and pool of queued tasks last published before ``older_than``, those of longest ago.

    They count as published now, so that several schedulers do not publish them all.
    """
    rows = conn.run(_UNPUBLISHED, {"older_than": older_than, "now": now, "limit": limit})
    return [(task_id, pool) for task_id, pool in sorted(rows)]


def due(conn: Connection, now: float, limit: int) -> list[tuple[str, str]]:
    """Queue the retries and delayed tasks whose time has come; their ids and pools, to publish."""
    rows = conn.run(_DUE, {"now": now, "limit": limit})
    return [(task_id, pool) for task_id, pool in sorted(rows)]


def expire(conn: Connection, now: float, limit: int = 1000) -> list[str]:
    """End queued tasks that nobody started in time; their ids."""
    rows = conn.run(_EXPIRE, {"now": now, "limit": limit})
    _reached(conn, [row[1:] for row in rows], State.EXPIRED)
    return sorted(row[0] for row in rows)
