"""Which versions of a model serve is a deployment record; versions say more of themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables, with what has been assigned so far in production."""
    op.create_table(
        "deployments",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("production", sa.Integer),
        sa.Column("previous", sa.Integer),
        sa.Column("candidate", sa.Integer),
        sa.Column("percent", sa.Double, nullable=False, server_default="0"),
        sa.Column("shadow", sa.Integer),
        sa.Column("aliases", sa.Text, nullable=False, server_default="{}"),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text),
        sa.Column("why", sa.Text),
    )
    op.create_index("deployments_by_seq", "deployments", ["seq"], unique=True)
    op.execute(
        "INSERT INTO deployments (name, production, seq, revision, at, by, why) "
        "SELECT name, version, seq, revision, at, by, why FROM assignments"
    )
    op.drop_table("assignments")
    op.create_table(
        "deployment_history",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("record", sa.Text, nullable=False),
    )
    for column in (
        sa.Column("params", sa.Text, nullable=False, server_default="null"),
        sa.Column("size", sa.BigInteger),
        sa.Column("state", sa.Text, nullable=False, server_default="stored"),
        sa.Column("reason", sa.Text),
        sa.Column("gate", sa.Text),
    ):
        op.add_column("models", column)
