"""Of which media type a task's input and result are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns. What stands there already is JSON, which is null: no row is rewritten."""
    op.add_column("tasks", sa.Column("body_type", sa.Text))
    op.add_column("tasks", sa.Column("result_type", sa.Text))
