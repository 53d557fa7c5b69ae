"""The event store's first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "events",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("task_id", KEY, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_task", "events", ["task_id", "seq"])
    progress = sa.text("type = 'progress'")
    op.create_index(
        "events_progress",
        "events",
        ["task_id", "seq"],
        sqlite_where=progress,
        postgresql_where=progress,
    )
    op.create_table(
        "event_marks",
        sa.Column("writer", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
