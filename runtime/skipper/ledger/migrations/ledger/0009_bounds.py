"""How many tasks may run at once, what a schedule does while its last run goes on, and families."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns, and an index for each question that is asked of them."""
    for table in ("tasks", "schedules"):
        op.add_column(table, sa.Column("concurrency", sa.Integer))
        op.add_column(table, sa.Column("concurrency_key", sa.Text))
    op.add_column(
        "tasks", sa.Column("detached", sa.SmallInteger, nullable=False, server_default="0")
    )
    overlap = sa.Column("overlap", sa.Text, nullable=False, server_default="queue")
    op.add_column("schedules", overlap)
    is_bounded = sa.text("concurrency IS NOT NULL")
    op.create_index(
        "tasks_bounded",
        "tasks",
        ["function", "concurrency_key", "state"],
        sqlite_where=is_bounded,
        postgresql_where=is_bounded,
    )
    is_going_on = sa.text("schedule IS NOT NULL AND finished_at IS NULL")
    op.create_index(
        "tasks_going_on",
        "tasks",
        ["schedule"],
        sqlite_where=is_going_on,
        postgresql_where=is_going_on,
    )
    has_parent = sa.text("parent_id IS NOT NULL")
    op.create_index(
        "tasks_by_parent",
        "tasks",
        ["parent_id"],
        sqlite_where=has_parent,
        postgresql_where=has_parent,
    )
