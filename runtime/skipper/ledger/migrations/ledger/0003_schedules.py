"""Schedules, and which of them made a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table of schedules, and a column for tasks to name theirs."""
    op.create_table(
        "schedules",
        sa.Column("name", KEY, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("function", "kind", "pool")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("cron", "timezone", "missed")),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("timeout_s", sa.Double),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("expires_s", sa.Double),
        sa.Column("starts_paused", sa.SmallInteger, nullable=False),
        sa.Column("is_paused", sa.SmallInteger, nullable=False),
        sa.Column("next_at", sa.Double),
        sa.Column("last_at", sa.Double),
        sa.Column("last_task_id", sa.Text),
        sa.Column("gone_at", sa.Double),
    )
    op.add_column("tasks", sa.Column("schedule", sa.Text))
    is_scheduled = sa.text("schedule IS NOT NULL")
    op.create_index(
        "tasks_by_schedule",
        "tasks",
        ["schedule", "id"],
        sqlite_where=is_scheduled,
        postgresql_where=is_scheduled,
    )
