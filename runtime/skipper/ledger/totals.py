"""Counters of the terminal states that tasks have reached: metrics that outlive every process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import select

from skipper.ledger.connection import Connection, Ended, Insert, Row, Statement, Total
from skipper.ledger.schema import totals as table
from skipper.task import State

_ADD = Statement(
    lambda insert: _adding(insert(table)),
    ["function", "pool", "state", "tasks"],
)
_ALL = Statement(select(table.c.function, table.c.pool, table.c.state, table.c.tasks))


def _adding(insert: Insert) -> Insert:
    return insert.on_conflict_do_update(
        index_elements=["function", "pool", "state"],
        set_={"tasks": table.c.tasks + insert.excluded.tasks},
    )


def count(conn: Connection, rows: Iterable[Row], state: State) -> None:
    """Count that the tasks of ``rows`` (id, function, pool) have reached ``state``."""
    conn.ended += [
        Ended(task_id, Total(function, pool, state.value)) for task_id, function, pool in rows
    ]


def flush(conn: Connection) -> None:
    """Add what the transaction's operations have ended to the table.

    Last in a transaction and in one order for all, so that writers wait for each other briefly and
    never in a circle.
    """
    counts = Counter(ended.total for ended in conn.ended)
    rows = [{**total._asdict(), "tasks": number} for total, number in sorted(counts.items())]
    if rows:
        conn.run_each(_ADD, rows)


def read(conn: Connection) -> dict[Total, int]:
    """How many tasks of each function and pool have reached each terminal state, ever."""
    return {Total(*row[:3]): row[3] for row in conn.run(_ALL, {})}
