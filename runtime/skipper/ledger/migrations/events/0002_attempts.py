"""Events know their attempt, and which of its lines or points they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; what is there already has 0 in both: nobody noted it."""
    for name in ("attempt", "number"):
        op.add_column("events", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
