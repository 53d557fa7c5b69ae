"""Callers upload files, and values consist of several blobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

_KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make both tables, empty: what is stored so far is one blob a value."""
    op.create_table(
        "task_parts",
        sa.Column("task_id", _KEY, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("ref", _KEY, primary_key=True),
    )
    op.create_index("task_parts_by_ref", "task_parts", ["ref"])
    op.create_table(
        "files",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("ref", _KEY, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_index("files_by_ref", "files", ["ref"])
    op.create_index("files_by_expiry", "files", ["expires_at"])
