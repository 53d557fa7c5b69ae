"""Versions of models: which blob is which version of which name, and who made it.

Which of them serve stands in ``deployments``; publishing one changes that, too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from sqlalchemy import Integer, bindparam, func, insert, select, update

from skipper.errors import ConflictError, NotFoundError
from skipper.failpoints import failpoint
from skipper.ledger import deployments, transitions
from skipper.ledger.connection import Connection, Row, Statement, limited, literal
from skipper.ledger.ownership import owns
from skipper.ledger.records import (
    Admission,
    Admit,
    Deployment,
    Fitness,
    Forced,
    ImportedModel,
    ModelVersion,
    ModelVersionNew,
    Standing,
)
from skipper.ledger.schema import models as m
from skipper.selectors import MAX_VERSION, Role, Selector

_FIELDS = tuple(ModelVersion.__dataclass_fields__)
_MODEL = [m.c[name] for name in _FIELDS]
_BY_NAME = m.c.name == bindparam("name")

RETURNED = -1
"""The step of a version that its training has returned, and not saved on the way."""
_SEEN = Statement(
    select(m.c.version).where(
        m.c.task_id == bindparam("task_id"), _BY_NAME, m.c.step == bindparam("step")
    )
)
_NEWEST = Statement(select(func.max(m.c.version)).where(_BY_NAME))
_PUBLISH = Statement(insert(m), [column.name for column in m.columns if column.name != "seq"])


def _anyhow(held: ModelVersion | None) -> Admission:
    """Has every version serve."""
    del held
    return Admission()


def publish(conn: Connection, new: ModelVersionNew, admit: Admit = _anyhow) -> int | None:
    """Make ``new`` the next version of its name, while its attempt owns the task; else None.

    It serves from then on if ``admit`` lets it and it is not unfit. Raises :class:`ConflictError`
    where ``admit`` decides nothing about what is in production now.

    Publishing the same name and step again for the same task gives the version it already has, and
    deploys nothing: an earlier attempt may have been lost after it had published and before its end
    was written.
    """
    # One publisher at a time, so that versions have no gap and `seq` rises in the order of commits.
    conn.lock(deployments.LOCK)
    params = asdict(new)
    if not owns(conn, new.task_id, new.attempt, new.host):
        return None
    if seen := conn.run(_SEEN, params):
        return int(seen[0][0])
    version = _next(conn, new.name)
    documents = {"metrics": json.dumps(new.metrics), "params": json.dumps(new.params)}
    held = deployments.get(conn, new.name) or transitions.undeployed(new.name)
    admission = _admission(conn, new, held, admit)
    facts = {"version": version, "state": new.state.value, "gate": json.dumps(admission.gate)}
    conn.run(_PUBLISH, params | documents | facts | {"origin": None})
    if admission.serves:
        _deploy(conn, new, held, version, admission.percent)
    failpoint("ledger.publish.written")
    return version


def take_in(conn: Connection, new: ImportedModel) -> ModelVersion:
    """Make what was made elsewhere the next version of its name; nobody has loaded it.

    It serves once it is promoted.
    """
    conn.lock(deployments.LOCK)
    version = _next(conn, new.name)
    documents = {name: json.dumps(getattr(new, name)) for name in ("metrics", "params", "origin")}
    facts = {"version": version, "state": Fitness.STORED.value, "reason": None, "gate": None}
    no_task = {"task_id": "", "attempt": 0, "step": version}
    conn.run(_PUBLISH, asdict(new) | documents | facts | no_task)
    made = get(conn, new.name, version)
    assert made is not None
    return made


def _next(conn: Connection, name: str) -> int:
    ((newest,),) = conn.run(_NEWEST, {"name": name})
    return (newest or 0) + 1


def _admission(conn: Connection, new: ModelVersionNew, held: Deployment, admit: Admit) -> Admission:
    """What is decided about a version; one that is unfit is not judged by its metrics."""
    if new.state is Fitness.UNFIT:
        return Admission(serves=False)
    there = None if held.production is None else get(conn, new.name, held.production)
    if (decided := admit(there)) is None:
        raise ConflictError(f"another version of {new.name!r} has been put in production meanwhile")
    return decided


def _deploy(
    conn: Connection, new: ModelVersionNew, held: Deployment, version: int, percent: float
) -> None:
    if percent and held.production is not None:
        changed = transitions.with_candidate(held, version, percent)
    else:
        changed = transitions.promoted(held, version)
    deployments.put(conn, replace(changed, at=new.created_at, by=None, why=None))


def standing(conn: Connection, version: ModelVersion) -> Standing:
    """Whether a version that has just been published serves, or why it does not."""
    held = deployments.held_of(conn, version.name)
    if version.version in (held.production, held.candidate):
        return Standing(serves=True)
    why = version.reason or (version.gate or {}).get("why")
    if why is None and held.production is not None and held.production > version.version:
        why = f"version {held.production} has been put in production meanwhile"
    return Standing(serves=False, why=why or "nobody has promoted it")


def in_production(conn: Connection, name: str) -> ModelVersion | None:
    """The version of ``name`` that is in production."""
    held = deployments.get(conn, name)
    return get(conn, name, held.production) if held and held.production is not None else None


def force(conn: Connection, version: ModelVersion, forced: Forced) -> None:
    """Have a version be promoted whatever its gate has said, and keep who wants that and why.

    One that did not load is tried again.
    """
    if version.state is Fitness.UNFIT:
        judge(conn, version.name, version.version, Fitness.STORED)
    if not version.gate or version.gate["passed"]:
        return
    document = json.dumps(version.gate | {"forced": asdict(forced)})
    named = {"name": version.name, "version": version.version}
    conn.run(_SET_GATE, named | {"document": document})


_LATEST = Statement(limited(select(*_MODEL).where(_BY_NAME).order_by(m.c.version.desc())))
_USABLE = Statement(
    limited(
        select(m.c.version)
        .where(
            _BY_NAME,
            m.c.state != literal(Fitness.UNFIT),
            m.c.state != literal(Fitness.REMOVED),
        )
        .order_by(m.c.version.desc())
    )
)
_GET = Statement(select(*_MODEL).where(_BY_NAME, m.c.version == bindparam("version")))
# From each name to the next one: with DISTINCT, every version of every model would be read.
_FIRST = select(func.min(m.c.name).label("name")).cte("names", recursive=True)
_NEXT = select(func.min(m.c.name)).where(m.c.name > _FIRST.c.name).scalar_subquery()
_EACH = _FIRST.union_all(select(_NEXT).where(_FIRST.c.name.is_not(None)))
_NAMES = Statement(select(_EACH.c.name).where(_EACH.c.name.is_not(None)).order_by(_EACH.c.name))
_VERSIONS = Statement(
    limited(
        select(*_MODEL)
        .where(_BY_NAME, m.c.version < bindparam("cursor", type_=Integer()))
        .order_by(m.c.version.desc())
    )
)
_JUDGE = Statement(
    update(m)
    .where(_BY_NAME, m.c.version == bindparam("version"), m.c.state != literal(Fitness.REMOVED))
    .values(state=bindparam("fitness"), reason=bindparam("why"))
)
_SET_GATE = Statement(
    update(m)
    .where(_BY_NAME, m.c.version == bindparam("version"))
    .values(gate=bindparam("document"))
)
_PUBLISHED = Statement(
    select(*_MODEL).where(m.c.seq > bindparam("seq", type_=Integer())).order_by(m.c.seq)
)


def latest(conn: Connection, name: str) -> ModelVersion | None:
    """The newest version of ``name``."""
    rows = conn.run(_LATEST, {"name": name, "limit": 1})
    return _model_of(rows[0]) if rows else None


def get(conn: Connection, name: str, version: int) -> ModelVersion | None:
    """One version of ``name``."""
    rows = conn.run(_GET, {"name": name, "version": version})
    return _model_of(rows[0]) if rows else None


def resolve(conn: Connection, selector: Selector) -> ModelVersion:
    """The version that a selector means now.

    Raises :class:`NotFoundError`, in a sentence, where there is none, or no longer.
    """
    held = deployments.held_of(conn, selector.name)
    version = selector.at if isinstance(selector.at, int) else _named(conn, held, selector.at)
    found = get(conn, selector.name, version) if version is not None else None
    if found is None:
        raise NotFoundError(f"model {selector.name!r} has no {_in_words(held, selector.at)}")
    if found.state is Fitness.REMOVED:
        raise NotFoundError(f"{found.name}@{found.version} was removed: {found.reason}")
    return found


def _named(conn: Connection, held: Deployment, at: str) -> int | None:
    if at == Role.LATEST:
        rows = conn.run(_USABLE, {"name": held.name, "limit": 1})
        return rows[0][0] if rows else None
    roles = {
        Role.PRODUCTION: held.production,
        Role.PREVIOUS: held.previous,
        Role.CANDIDATE: held.candidate,
        Role.SHADOW: held.shadow,
    }
    return roles[Role(at)] if at in roles else held.aliases.get(at)


def _in_words(held: Deployment, at: int | str) -> str:
    if isinstance(at, int):
        return f"version {at}"
    if at == Role.LATEST:
        return "version that is fit"
    if at == Role.PRODUCTION:
        return "version in production: promote one"
    if isinstance(at, Role):
        return f"{at} version"
    return f"alias {at!r}; it has {', '.join(sorted(held.aliases)) or 'none'}"


def list_names(conn: Connection) -> list[str]:
    """Every model's name, sorted."""
    return [name for (name,) in conn.run(_NAMES, {})]


def versions(
    conn: Connection, name: str, limit: int, cursor: str | None = None
) -> tuple[list[ModelVersion], str | None]:
    """Up to ``limit`` versions, newest first, and the cursor of the next page if there is one.

    Raises :class:`ValueError` for a cursor that no page gave.
    """
    before = MAX_VERSION if cursor is None else _version_of(cursor)
    rows = conn.run(_VERSIONS, {"name": name, "cursor": before, "limit": limit + 1})
    found = [_model_of(row) for row in rows[:limit]]
    return found, str(found[-1].version) if len(rows) > limit else None


def judge(
    conn: Connection, name: str, version: int, state: Fitness, reason: str | None = None
) -> None:
    """Write what is known of a version from now on, and why, unless it is removed."""
    found = {"name": name, "version": version, "fitness": state.value, "why": reason}
    conn.run(_JUDGE, found)


def published_since(conn: Connection, seq: int) -> list[ModelVersion]:
    """What has been published after the version with ``seq``, in order."""
    return [_model_of(row) for row in conn.run(_PUBLISHED, {"seq": seq})]


def _version_of(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and int(cursor) <= MAX_VERSION):
        raise ValueError("no page has this cursor")
    return int(cursor)


def _model_of(row: Row) -> ModelVersion:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in ("metrics", "params", "gate", "origin"):
        values[name] = json.loads(values[name] or "null")
    return ModelVersion(**values | {"state": Fitness(values["state"])})
