"""What of a model's versions is kept: the newest, the young, and what anybody holds.

A version that is removed leaves its row, so that its number is not given again and whoever asks is
told. Its blobs go once nothing else consists of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, select, update

from skipper.failpoints import failpoint
from skipper.ledger import deployments
from skipper.ledger.connection import Connection, Statement, literal
from skipper.ledger.records import Cleared, Deployment, Fitness, Keeping, ShelvedVersion
from skipper.ledger.schema import models as m
from skipper.ledger.schema import tasks as t
from skipper.selectors import Role
from skipper.task import State

_BY_NAME = m.c.name == bindparam("name")
_SHELVED = Statement(
    select(m.c.version, m.c.created_at)
    .where(_BY_NAME, m.c.state != literal(Fitness.REMOVED))
    .order_by(m.c.version.desc())
)
_RUNNING = Statement(
    select(t.c.model).where(t.c.state == literal(State.RUNNING), t.c.model.is_not(None))
)
_REMOVE = Statement(
    update(m)
    .where(_BY_NAME, m.c.version == bindparam("number"))
    .values(state=literal(Fitness.REMOVED), reason=bindparam("why"))
)
_REMOVED = Statement(select(m.c.seq).where(m.c.state == literal(Fitness.REMOVED)))


def superfluous(
    shelved: Iterable[ShelvedVersion], held: Mapping[int, str], keeping: Keeping
) -> list[int]:
    """The versions that go, of those ``shelved``, the newest first. Pure.

    Kept are the newest ``keeping.versions``, what was made since ``keeping.since``, and what is
    ``held``, which counts among the newest like any other; the newest one always.
    """
    return [
        each.version
        for place, each in enumerate(shelved)
        if each.version not in held
        and place >= (keeping.versions or 1)
        and (keeping.since is None or each.created_at < keeping.since)
    ]


def holders(record: Deployment, running: Iterable[str], pinned: Iterable[int]) -> dict[int, str]:
    """Who holds which versions of a model, in a word. Pure.

    ``running`` are the ``name@version`` of the models of running tasks, ``pinned`` the versions
    that functions ask for by number.
    """
    held = dict.fromkeys(pinned, "a function")
    for text in running:
        name, _, version = text.partition("@")
        if name == record.name and version.isdecimal():
            held[int(version)] = "a running task"
    held |= {version: f"alias {alias}" for alias, version in record.aliases.items()}
    roles = {Role.SHADOW: record.shadow, Role.CANDIDATE: record.candidate}
    roles |= {Role.PREVIOUS: record.previous, Role.PRODUCTION: record.production}
    return held | {version: str(role) for role, version in roles.items() if version is not None}


def clear(
    conn: Connection, name: str, keeping: Keeping, pinned: Iterable[int], *, is_trial: bool = False
) -> Cleared:
    """Remove the versions of a model that are not kept; which, and who holds others.

    A trial removes nothing. Raises :class:`NotFoundError` where there is no such model.
    """
    conn.lock(deployments.LOCK)  # so that none is promoted or published meanwhile
    record = deployments.held_of(conn, name)
    running = [text for (models,) in conn.run(_RUNNING, {}) for text in models.split()]
    held = holders(record, running, pinned)
    rows = conn.run(_SHELVED, {"name": name})
    removed = superfluous([ShelvedVersion(*row) for row in rows], held, keeping)
    if not is_trial:
        why = {"name": name, "why": keeping.why}
        conn.run_each(_REMOVE, [why | {"number": version} for version in removed])
        failpoint("ledger.shelf.cleared")
    kept = {version for version, _ in rows} - {*removed}
    return Cleared(removed=tuple(removed), held={v: held[v] for v in sorted(kept & held.keys())})


def removed(conn: Connection) -> set[int]:
    """The numbers of publications, over all models, whose versions have been removed."""
    return {seq for (seq,) in conn.run(_REMOVED, {})}
