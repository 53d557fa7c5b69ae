"""How many bytes of inputs and results tasks keep, wherever these lie.

Content that several tasks share counts for each. The sum is kept up to date by whoever writes, each
in a row of some few, so that writers seldom wait for each other.
"""

from __future__ import annotations

import os

from sqlalchemy import func, select

from skipper.ledger.connection import Connection, Insert, Statement, literal
from skipper.ledger.schema import usage as table
from skipper.values.value import Value

STRIPES = 16

_ADD = Statement(lambda insert: _adding(insert(table)), ["stripe", "bytes"])
_SUM = Statement(select(func.coalesce(func.sum(table.c.bytes), literal(0))))


def _adding(insert: Insert) -> Insert:
    return insert.on_conflict_do_update(
        index_elements=["stripe"], set_={"bytes": table.c.bytes + insert.excluded.bytes}
    )


def size_of(value: Value | None) -> int:
    """How many bytes a value has; 0 for one in the store whose size nobody has recorded."""
    if value is None:
        return 0
    return value.size if value.size is not None else len(value.inline or b"")


def flush(conn: Connection) -> None:
    """Add what the transaction stores, less what it forgets. Last in it, after the totals."""
    if conn.stored:
        conn.run(_ADD, {"stripe": os.getpid() % STRIPES, "bytes": conn.stored})


def read(conn: Connection) -> int:
    """The sum."""
    return int(conn.run(_SUM, {})[0][0])
