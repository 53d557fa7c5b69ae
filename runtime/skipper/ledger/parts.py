"""The blobs that the inputs and results of tasks consist of, beside the rows' own."""

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


def copy_input(conn: Connection, task_id: str, new_id: str) -> None:
    """Keep the blobs of a task's input for another one, too."""
    conn.run(_COPY, {"id": task_id, "new_id": new_id, "of": "body"})


def remove(conn: Connection, task_ids: Sequence[str]) -> set[str]:
    """Forget what these tasks consist of; the blobs."""
    return {ref for (ref,) in conn.run(_REMOVE, {"ids": conn.ids(task_ids)})}
