"""A training may publish several versions of a model: one for each step that it saves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Number them within their task; those that are there were returned at its end."""
    op.add_column("models", sa.Column("step", sa.Integer, nullable=False, server_default="-1"))
    op.drop_index("models_by_task", "models")
    op.create_index("models_by_task", "models", ["task_id", "name", "step"], unique=True)
