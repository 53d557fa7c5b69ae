"""Which version of each model serves is a record of its own: so far it was the newest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, with the newest version of each model in it."""
    op.create_table(
        "assignments",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text),
        sa.Column("why", sa.Text),
    )
    op.create_index("assignments_by_seq", "assignments", ["seq"], unique=True)
    op.execute(
        "INSERT INTO assignments (name, version, seq, revision, at) "
        "SELECT name, version, seq, 1, created_at FROM models AS m WHERE version = "
        "(SELECT MAX(version) FROM models WHERE name = m.name)"
    )
