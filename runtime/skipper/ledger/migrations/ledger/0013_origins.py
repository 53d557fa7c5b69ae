"""A version of a model may have been made elsewhere: where, and who has brought it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Those that are there were made here."""
    op.add_column("models", sa.Column("origin", sa.Text))
