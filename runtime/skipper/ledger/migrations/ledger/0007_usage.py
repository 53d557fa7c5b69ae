"""What tasks store is summed up, so that it can be bounded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table, with what stands in rows; how large values in the store are nobody knows."""
    op.add_column("tasks", sa.Column("body_size", sa.BigInteger))
    op.add_column("tasks", sa.Column("result_size", sa.BigInteger))
    op.create_table(
        "usage",
        sa.Column("stripe", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO usage (stripe, bytes) SELECT 0, "
        "COALESCE(SUM(LENGTH(body)), 0) + COALESCE(SUM(LENGTH(result)), 0) FROM tasks"
    )
