"""What waits is found function by function, so that each has its turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Put the function into the index of what is ready."""
    op.drop_index("tasks_ready", "tasks")
    condition = sa.text("ready = 1")
    op.create_index(
        "tasks_ready",
        "tasks",
        ["pool", "function", sa.text("priority DESC"), "id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
