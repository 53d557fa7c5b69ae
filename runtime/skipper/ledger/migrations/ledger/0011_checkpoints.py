"""What the next attempt of a task may go on from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

Key = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, and an index for each question that is asked of it."""
    op.create_table(
        "checkpoints",
        sa.Column("task_id", Key, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("digest", Key, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("progress", sa.Text),
        sa.Column("dropped_at", sa.Double),
    )
    is_kept, is_dropped = sa.text("dropped_at IS NULL"), sa.text("dropped_at IS NOT NULL")
    op.create_index(
        "checkpoints_kept",
        "checkpoints",
        ["task_id", "size"],
        sqlite_where=is_kept,
        postgresql_where=is_kept,
    )
    op.create_index(
        "checkpoints_dropped",
        "checkpoints",
        ["dropped_at"],
        sqlite_where=is_dropped,
        postgresql_where=is_dropped,
    )
