"""Which versions of each model serve: one record a model, changed by compare-and-set.

Whoever serves models asks for what has changed since the last look, and of two records of one model
the later holds: the order is that of their numbers, never that of the versions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Integer, bindparam, func, insert, select

from skipper.errors import ConflictError, KeptOutError, NotFoundError, UnfitError
from skipper.ledger.connection import Connection, Insert, Row, Statement, limited
from skipper.ledger.records import Deployment, Fitness
from skipper.ledger.schema import deployment_history as h
from skipper.ledger.schema import deployments as d
from skipper.ledger.schema import models as m
from skipper.ledger.transitions import Step, undeployed

LOCK = "models"
"""Held by whoever publishes or deploys, so that numbers rise in the order of commits."""

_FIELDS = tuple(Deployment.__dataclass_fields__)
_COLUMNS = [d.c[name] for name in _FIELDS]
_BY_NAME = d.c.name == bindparam("name")


def _putting(insert_: Insert) -> Insert:
    changed = [column.name for column in d.columns if not column.primary_key]
    return insert_.on_conflict_do_update(
        index_elements=["name"], set_={name: insert_.excluded[name] for name in changed}
    )


_GET = Statement(select(*_COLUMNS).where(_BY_NAME))
_CHANGED = Statement(
    select(*_COLUMNS).where(d.c.seq > bindparam("seq", type_=Integer())).order_by(d.c.seq)
)
_LAST = Statement(select(func.max(d.c.seq)))
_STATE = Statement(
    select(m.c.state, m.c.reason, m.c.gate).where(
        m.c.name == bindparam("name"), m.c.version == bindparam("version")
    )
)
_HAS_VERSIONS = Statement(limited(select(m.c.version).where(m.c.name == bindparam("name"))))
_PUT = Statement(lambda insert_: _putting(insert_(d)), [column.name for column in d.columns])
_REMEMBER = Statement(insert(h), [column.name for column in h.columns])
_HISTORY = Statement(
    limited(
        select(h.c.record)
        .where(h.c.name == bindparam("name"), h.c.revision < bindparam("revision", type_=Integer()))
        .order_by(h.c.revision.desc())
    )
)


def get(conn: Connection, name: str) -> Deployment | None:
    """Which versions of the model ``name`` serve; None before its first one."""
    rows = conn.run(_GET, {"name": name})
    return _deployment_of(rows[0]) if rows else None


def changed_since(conn: Connection, seq: int) -> list[Deployment]:
    """The records of models that changed later than ``seq``, in the order of their last change."""
    return [_deployment_of(row) for row in conn.run(_CHANGED, {"seq": seq})]


def held_of(conn: Connection, name: str) -> Deployment:
    """The record of a model, also of one of which nothing has served yet.

    Raises :class:`NotFoundError` where there is no such model.
    """
    if found := get(conn, name):
        return found
    if not conn.run(_HAS_VERSIONS, {"name": name, "limit": 1}):
        raise NotFoundError(f"there is no model {name!r}")
    return undeployed(name)


def change(conn: Connection, name: str, step: Step, *, follows: int | None = None) -> Deployment:
    """Take a step from the record that holds; the one that holds then.

    A step that changes nothing makes no revision. Raises :class:`ConflictError` where the record
    that holds is not of the revision ``follows``, if that is given, and what ``step`` and
    :func:`put` raise.
    """
    conn.lock(LOCK)
    held = held_of(conn, name)
    if follows is not None and follows != held.revision:
        raise ConflictError(
            f"the deployment of {name!r} is at revision {held.revision}, not at {follows}"
        )
    wanted = step(held)
    if _facts(wanted) == _facts(held):
        return held
    made = put(conn, wanted)
    assert made is not None  # because the lock has been held since the record was read
    return made


def put(conn: Connection, changed: Deployment) -> Deployment | None:
    """Write a record that was made from the one with its revision; as it is stored.

    None where that is not the model's revision any more. Raises :class:`NotFoundError` where it
    names a version that the model does not have, :class:`UnfitError` where it has one serve that
    cannot, :class:`KeptOutError` where it has one answer that the model's gate keeps out.
    """
    conn.lock(LOCK)
    held = get(conn, changed.name) or undeployed(changed.name)
    _check(conn, changed, held)
    if changed.revision != held.revision:
        return None
    ((last,),) = conn.run(_LAST, {})
    made = replace(changed, seq=(last or 0) + 1, revision=held.revision + 1)
    conn.run(_PUT, _as_row(made))
    record = json.dumps(asdict(made))
    conn.run(_REMEMBER, {"name": made.name, "revision": made.revision, "record": record})
    return made


def _check(conn: Connection, changed: Deployment, held: Deployment) -> None:
    """Every version that is named is there; what is to serve and did not so far is fit to."""
    newly = {*changed.serving.items()} - {*held.serving.items()}
    for version in changed.versions:
        rows = conn.run(_STATE, {"name": changed.name, "version": version})
        state, reason, gate = rows[0] if rows else (Fitness.REMOVED, None, None)
        if state == Fitness.REMOVED:
            has = "no longer has" if rows else "has no"
            raise NotFoundError(f"model {changed.name!r} {has} version {version}")
        if state == Fitness.UNFIT and version in (each for _, each in newly):
            raise UnfitError(
                f"version {version} of {changed.name!r} is unfit: {reason}; promote it with "
                "force, and say why, to have it tried again"
            )
        answers = {role for role, each in newly if each == version} & {"production", "candidate"}
        if answers and _is_kept_out(decided := json.loads(gate or "null")):
            raise KeptOutError(f"its gate keeps version {version} out: {decided['why']}")


def _is_kept_out(gate: dict[str, Any] | None) -> bool:
    return gate is not None and not gate["passed"] and "forced" not in gate


def _facts(record: Deployment) -> Deployment:
    """What a record says of versions, without who has said so."""
    return replace(record, at=0.0, by=None, why=None)


_MAX_REVISION = 2**31 - 1


def history(conn: Connection, name: str, limit: int, before: int | None = None) -> list[Deployment]:
    """Up to ``limit`` records that have held for a model, the newest first.

    Those with a revision below ``before`` where that is given.
    """
    below = _MAX_REVISION if before is None else before
    rows = conn.run(_HISTORY, {"name": name, "revision": below, "limit": limit})
    return [Deployment(**json.loads(record)) for (record,) in rows]


def _as_row(record: Deployment) -> dict[str, Any]:
    return asdict(record) | {"aliases": json.dumps(record.aliases)}


def _deployment_of(row: Row) -> Deployment:
    values = dict(zip(_FIELDS, row, strict=True))
    return Deployment(**{**values, "aliases": json.loads(values["aliases"])})
