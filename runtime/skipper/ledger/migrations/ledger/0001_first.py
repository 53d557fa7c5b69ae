"""The ledger's first tables."""

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
    _tasks()
    _beside_tasks()
    _hosts()
    _models()


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", KEY, primary_key=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("function", "kind", "pool", "state")
        ),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("spent", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("ready", sa.SmallInteger),
        sa.Column("cancel_requested", sa.SmallInteger, nullable=False),
        sa.Column("timeout_s", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("available_at", sa.Double, nullable=False),
        sa.Column("published_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("deadline_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        *(sa.Column(name, sa.Text) for name in ("host", "instance", "code", "model")),
        *(sa.Column(name, sa.Text) for name in ("parent_id", "request_id")),
        *(sa.Column(name, sa.Text) for name in ("idempotency_key", "idempotency_hash")),
        *(sa.Column(name, sa.Text) for name in ("error", "body_ref", "result_ref")),
        sa.Column("body", sa.LargeBinary),
        sa.Column("result", sa.LargeBinary),
        postgresql_with={"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
    )
    op.create_index("tasks_by_function", "tasks", ["function", "state", "id"])
    op.create_index("tasks_by_state", "tasks", ["state", "id"])
    _partial("tasks_ready", ["pool", sa.text("priority DESC"), "id"], "ready = 1")
    _partial("tasks_delayed", ["available_at", "pool", "state"], "ready = 0")
    _partial("tasks_published", ["published_at"], "ready = 1")
    _partial("tasks_running", ["host", "pool"], "state = 'running'")
    _partial("tasks_expiring", ["expires_at"], "expires_at IS NOT NULL")
    _partial("tasks_by_key", ["idempotency_key"], "idempotency_key IS NOT NULL", unique=True)
    _partial("tasks_by_body", ["body_ref"], "body_ref IS NOT NULL")
    _partial("tasks_by_result", ["result_ref"], "result_ref IS NOT NULL")


def _partial(
    name: str, columns: list[str | sa.TextClause], where: str, *, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(
        name, "tasks", columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )


def _beside_tasks() -> None:
    op.create_table(
        "attempts",
        sa.Column("task_id", KEY, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("instance", sa.Text),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "totals",
        sa.Column("function", sa.Text, primary_key=True),
        sa.Column("pool", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("tasks", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tombstones",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("tombstones_by_time", "tombstones", ["at"])


def _hosts() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("pool", "machine", "seat")),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("counter", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger_marks",
        sa.Column("writer", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("name", KEY, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("digest", "format", "metrics")),
        sa.Column("code", sa.Text),
        sa.Column("task_id", KEY, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("function", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("models_by_name", "models", ["name", "version"], unique=True)
    op.create_index("models_by_task", "models", ["task_id", "attempt", "name"], unique=True)
