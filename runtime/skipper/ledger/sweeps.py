"""What a scheduler does to many tasks at a time. ``tasks`` offers it all."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Double, Text, bindparam, null, select, update

from skipper.failpoints import failpoint
from skipper.ledger import totals
from skipper.ledger.bounds import HAS_ROOM
from skipper.ledger.connection import Connection, Statement, limited, literal, locked
from skipper.ledger.schema import tasks as t
from skipper.outcomes import Outcome, stored_error
from skipper.task import State

_NOW: BindParameter[float] = bindparam("now", type_=Double())
_READY, _DELAYED = t.c.ready == literal(1), t.c.ready == literal(0)


def _first(order: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The first ``limit`` rows, by ``order``, that nobody is changing just now."""
    return t.c.id.in_(locked(limited(select(t.c.id).where(*conditions).order_by(order))))


LONGEST_PAUSE_S = 3600.0
"""A retry that is further ahead was dated by a clock that has been put back since: no pause between
two attempts is that long."""


def _publishing(*conditions: ColumnElement[bool]) -> Statement:
    return Statement(
        update(t)
        .where(_first(t.c.published_at, _READY, HAS_ROOM, *conditions))
        .values(published_at=_NOW)
        .returning(t.c.id, t.c.pool)
    )


def _queueing(*conditions: ColumnElement[bool]) -> Statement:
    return Statement(
        update(t)
        .where(_first(t.c.available_at, _DELAYED, *conditions))
        .values(state=literal(State.QUEUED), ready=literal(1), published_at=_NOW)
        .returning(t.c.id, t.c.pool)
    )


_UNPUBLISHED = _publishing(t.c.published_at < bindparam("older_than", type_=Double()))
_PUBLISHED_AHEAD = _publishing(t.c.published_at > bindparam("ahead", type_=Double()))
_DUE = _queueing(t.c.available_at <= _NOW)
_RETRIED_AHEAD = _queueing(
    t.c.available_at > bindparam("ahead", type_=Double()),
    t.c.state == literal(State.RETRYING),
)
_EXPIRE = Statement(
    update(t)
    .where(_first(t.c.expires_at, t.c.expires_at <= _NOW))
    .values(
        state=literal(State.EXPIRED),
        finished_at=_NOW,
        ready=null(),
        expires_at=null(),
        error=bindparam("error", type_=Text()),
    )
    .returning(t.c.id, t.c.function, t.c.pool)
)
_WAITED_TOO_LONG = json.dumps(
    stored_error(
        Outcome.TIMED_OUT,
        {
            "title": "The task expired",
            "detail": "Nobody had started it by the time at which it was to expire.",
        },
    )
)


def unpublished(
    conn: Connection, older_than: float, now: float, limit: int
) -> list[tuple[str, str]]:
    """Id and pool of queued tasks last published before ``older_than``, those of longest ago.

    Also of those published as far ahead: the clock has been put back. They count as published now,
    so that several schedulers do not publish them all.
    """
    params = {"now": now, "limit": limit}
    rows = conn.run(_UNPUBLISHED, {**params, "older_than": older_than})
    rows += conn.run(_PUBLISHED_AHEAD, {**params, "ahead": 2 * now - older_than})
    failpoint("ledger.republish.written")
    return [(task_id, pool) for task_id, pool in sorted(rows)]


def due(conn: Connection, now: float, limit: int) -> list[tuple[str, str]]:
    """Queue the retries and delayed tasks whose time has come; their ids and pools, to publish."""
    params = {"now": now, "limit": limit}
    rows = conn.run(_DUE, params)
    rows += conn.run(_RETRIED_AHEAD, {**params, "ahead": now + LONGEST_PAUSE_S})
    failpoint("ledger.due.written")
    return [(task_id, pool) for task_id, pool in sorted(rows)]


def expire(conn: Connection, now: float, limit: int = 1000) -> list[str]:
    """End queued tasks that nobody started in time; their ids."""
    rows = conn.run(_EXPIRE, {"now": now, "limit": limit, "error": _WAITED_TOO_LONG})
    failpoint("ledger.expire.written")
    totals.count(conn, rows, State.EXPIRED)
    return sorted(row[0] for row in rows)
