"""The blobs that inputs, results and checkpoints of tasks consist of, beside the rows' own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Text, bindparam, delete, insert, select

from skipper.ledger.connection import Connection, Statement, among
from skipper.ledger.schema import task_parts as t
from skipper.values.value import Value

_ADD = Statement(
    lambda insert: insert(t).on_conflict_do_nothing(index_elements=["task_id", "value", "ref"]),
    ["task_id", "value", "ref"],
)
_COPY = Statement(
    insert(t).from_select(
        ["task_id", "value", "ref"],
        select(bindparam("new_id", type_=Text()), t.c.value, t.c.ref).where(
            t.c.task_id == bindparam("id"), t.c.value == bindparam("of")
        ),
    )
)
_REMOVE_NAMED = Statement(
    delete(t)
    .where(t.c.task_id == bindparam("task_id"), t.c.value == bindparam("value"))
    .returning(t.c.ref)
)
_RESCUE = "rescue"
_NAMED = Statement(
    select(t.c.ref).where(t.c.task_id == bindparam("task_id"), t.c.value == bindparam("value"))
)
_REMOVE = Statement(delete(t).where(among(t.c.task_id, "ids")).returning(t.c.ref))

Named = tuple[str, str, Value | None]
"""A task's id, which of its values (``body`` or ``result``), and the value."""


def add(conn: Connection, values: Iterable[Named]) -> None:
    """Keep the blobs of these values for as long as their tasks."""
    rows = [
        {"task_id": task_id, "value": name, "ref": ref}
        for task_id, name, value in values
        if value is not None
        for ref in value.refs
    ]
    if rows:
        conn.run_each(_ADD, rows)


def add_refs(conn: Connection, task_id: str, name: str, refs: Iterable[str]) -> None:
    """Keep these blobs for as long as the task, or until what is so named is removed."""
    conn.run_each(_ADD, [{"task_id": task_id, "value": name, "ref": ref} for ref in refs])


def add_rescue(conn: Connection, task_id: str, refs: Sequence[str]) -> None:
    """Keep what there is of a task's models, for as long as it; the first lists the others."""
    if refs:
        add_refs(conn, task_id, _RESCUE, refs[:1])
        add_refs(conn, task_id, f"{_RESCUE}/blobs", refs[1:])


def rescue(conn: Connection, task_id: str) -> str | None:
    """The folder that :func:`add_rescue` keeps; None where there is none."""
    rows = conn.run(_NAMED, {"task_id": task_id, "value": _RESCUE})
    return rows[0][0] if rows else None


def copy(conn: Connection, task_id: str, new_id: str, name: str) -> None:
    """Keep the blobs of what is so named for another task, too."""
    conn.run(_COPY, {"id": task_id, "new_id": new_id, "of": name})


def remove_named(conn: Connection, named: Sequence[tuple[str, str]]) -> set[str]:
    """Forget what these consist of, each a task's id and a name; the blobs."""
    rows = conn.run_each(
        _REMOVE_NAMED, [{"task_id": task_id, "value": name} for task_id, name in named]
    )
    return {ref for found in rows for (ref,) in found}


def remove(conn: Connection, task_ids: Sequence[str]) -> set[str]:
    """Forget what these tasks consist of; the blobs."""
    return {ref for (ref,) in conn.run(_REMOVE, {"ids": conn.ids(task_ids)})}
