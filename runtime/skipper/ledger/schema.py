"""The tables of the two stores. What changes here needs a migration beside it.

``LEDGER`` holds what must be sure: tasks, hosts, schedules, models. ``EVENTS`` holds what tasks
emit while they run; it commits without waiting for the disk, so that a talkative function cannot
slow a claim.

Conditions of partial indexes are literals, and so must they be in the statements that use them:
neither database matches an index's condition with a bound value. They name no column that another
index begins with, for SQLite would rather use that one.
"""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TextClause,
    text,
)
from sqlalchemy.dialects import postgresql

LEDGER = MetaData()
EVENTS = MetaData()

Key = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Ids are compared byte by byte: faster, and the same order in every locale."""
Sequence = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite counts up only a column that is declared INTEGER."""


_numbers = itertools.count()


def _index(name: str, *columns: str | TextClause, **options: Any) -> Index:
    """An index that knows its place: of two that would do, databases take the one made later."""
    return Index(name, *columns, info={"number": next(_numbers)}, **options)


def _partial(name: str, *columns: str | TextClause, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return _index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def in_order(table: Table) -> list[Index]:
    """A table's indexes as they are declared here."""
    return sorted(table.indexes, key=lambda index: int(index.info["number"]))


tasks = Table(
    "tasks",
    LEDGER,
    Column("id", Key, primary_key=True),
    Column("function", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),  # of the current claim: the fence
    Column("spent", Integer, nullable=False),  # attempts that the function used up
    Column("losses", Integer, nullable=False),  # attempts that a lost host took with it
    Column("max_attempts", Integer, nullable=False),  # bounds `spent`
    Column("priority", Integer, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("ready", SmallInteger),  # 1: to be claimed; 0: from `available_at` on; null: waits not
    Column("cancel_requested", SmallInteger, nullable=False),
    Column("timeout_s", Double),
    Column("created_at", Double, nullable=False),
    Column("available_at", Double, nullable=False),
    Column("published_at", Double, nullable=False),
    Column("expires_at", Double),  # until its first claim
    Column("started_at", Double),
    Column("deadline_at", Double),
    Column("finished_at", Double),
    Column("host", Text),
    Column("instance", Text),
    Column("code", Text),
    Column("model", Text),
    Column("parent_id", Text),
    Column("request_id", Text),
    Column("idempotency_key", Text),
    Column("idempotency_hash", Text),
    Column("error", Text),
    Column("body_ref", Text),
    Column("result_ref", Text),
    Column("body", LargeBinary),  # last: SQLite reads a row from its left
    Column("result", LargeBinary),
    # These came later; where they are null, SQLite need not read past the blobs.
    Column("schedule", Text),
    Column("body_type", Text),  # a media type; null: JSON
    Column("result_type", Text),
    Column("body_size", BigInteger),  # bytes in the store; null: inline, or of before
    Column("result_size", BigInteger),
    Column("concurrency", Integer),  # so many of its bound may run at once; null: any number
    Column("concurrency_key", Text),  # of its bound, beside its function; empty: none
    Column("detached", SmallInteger, nullable=False, server_default="0"),  # from its parent
    _index("tasks_by_function", "function", "state", "id"),
    _index("tasks_by_state", "state", "id"),
    _partial("tasks_delayed", "available_at", "pool", "state", where="ready = 0"),
    _partial("tasks_published", "published_at", where="ready = 1"),
    _partial("tasks_ready", "pool", "function", text("priority DESC"), "id", where="ready = 1"),
    _partial("tasks_running", "host", "pool", where="state = 'running'"),
    _partial("tasks_expiring", "expires_at", where="expires_at IS NOT NULL"),
    _partial("tasks_by_key", "idempotency_key", where="idempotency_key IS NOT NULL", unique=True),
    _partial("tasks_by_body", "body_ref", where="body_ref IS NOT NULL"),
    _partial("tasks_by_result", "result_ref", where="result_ref IS NOT NULL"),
    _partial("tasks_by_schedule", "schedule", "id", where="schedule IS NOT NULL"),
    _partial(
        "tasks_bounded",
        "function",
        "concurrency_key",
        "state",
        where="concurrency IS NOT NULL",
    ),
    _partial("tasks_going_on", "schedule", where="schedule IS NOT NULL AND finished_at IS NULL"),
    _partial("tasks_by_parent", "parent_id", where="parent_id IS NOT NULL"),
    # A queue leaves many dead rows at the head of its index: PostgreSQL is to clear them early.
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)

task_parts = Table(  # blobs that values of a task consist of beside their own
    "task_parts",
    LEDGER,
    Column("task_id", Key, primary_key=True),
    Column("value", Text, primary_key=True),  # body, result, checkpoint/NUMBER, rescue…
    Column("ref", Key, primary_key=True),
    _index("task_parts_by_ref", "ref"),
)

checkpoints = Table(  # what the next attempt of a task may go on from
    "checkpoints",
    LEDGER,
    Column("task_id", Key, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),  # 0: of the task that this one is a copy of
    Column("digest", Key, nullable=False),
    Column("format", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("progress", Text),
    Column("dropped_at", Double),  # since when nobody needs it; its blobs stay for a moment
    _partial("checkpoints_kept", "task_id", "size", where="dropped_at IS NULL"),
    _partial("checkpoints_dropped", "dropped_at", where="dropped_at IS NOT NULL"),
)

files = Table(  # what callers have uploaded
    "files",
    LEDGER,
    Column("id", Key, primary_key=True),
    Column("ref", Key, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("name", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    _index("files_by_ref", "ref"),
    _index("files_by_expiry", "expires_at"),
)

attempts = Table(  # ended ones that another followed; the last one stands in its task's row
    "attempts",
    LEDGER,
    Column("task_id", Key, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("host", Text, nullable=False),
    Column("instance", Text),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("code", Text),
    Column("model", Text),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
)

totals = Table(  # terminal states reached since the ledger was made; never pruned
    "totals",
    LEDGER,
    Column("function", Text, primary_key=True),
    Column("pool", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("tasks", BigInteger, nullable=False),
)

usage = Table(  # bytes of inputs and results that tasks keep: the sum of a few rows
    "usage",
    LEDGER,
    Column("stripe", Integer, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False),
)

endings = Table(  # ended tasks that have no deliveries yet
    "endings",
    LEDGER,
    Column("task_id", Key, primary_key=True),
)

tombstones = Table(  # ids of tasks that retention took
    "tombstones",
    LEDGER,
    Column("id", Key, primary_key=True),
    Column("at", Double, nullable=False),
    _index("tombstones_by_time", "at"),
)

hosts = Table(
    "hosts",
    LEDGER,
    Column("id", Text, primary_key=True),
    Column("pool", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("seat", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("counter", BigInteger, nullable=False),
)

schedules = Table(
    "schedules",
    LEDGER,
    Column("name", Key, primary_key=True),
    Column("function", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("missed", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("timeout_s", Double),
    Column("priority", Integer, nullable=False),
    Column("expires_s", Double),
    Column("starts_paused", SmallInteger, nullable=False),
    Column("is_paused", SmallInteger, nullable=False),
    Column("next_at", Double),
    Column("last_at", Double),
    Column("last_task_id", Text),
    Column("gone_at", Double),  # since when nobody declares it
    Column("concurrency", Integer),
    Column("concurrency_key", Text),
    Column("overlap", Text, nullable=False, server_default="queue"),
)

models = Table(
    "models",
    LEDGER,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("name", Key, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("code", Text),
    Column("task_id", Key, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("function", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("params", Text, nullable=False, server_default="null"),
    Column("size", BigInteger),
    Column("state", Text, nullable=False, server_default="stored"),
    Column("reason", Text),
    Column("gate", Text),
    Column("step", Integer, nullable=False, server_default="-1"),  # of its task; -1: returned
    Column("origin", Text),  # JSON, of one that was imported: it has no task, its version as step
    _index("models_by_name", "name", "version", unique=True),
    _index("models_by_task", "task_id", "name", "step", unique=True),
    sqlite_autoincrement=True,
)

deployments = Table(  # which versions of each model serve; no row is ever deleted
    "deployments",
    LEDGER,
    Column("name", Key, primary_key=True),
    Column("production", Integer),
    Column("previous", Integer),
    Column("candidate", Integer),
    Column("percent", Double, nullable=False, server_default="0"),
    Column("shadow", Integer),
    Column("aliases", Text, nullable=False, server_default="{}"),  # JSON
    Column("seq", BigInteger, nullable=False),  # over all models, of the last change of any
    Column("revision", Integer, nullable=False),  # of this row, for compare-and-set
    Column("at", Double, nullable=False),
    Column("by", Text),  # null: a version's publication
    Column("why", Text),
    _index("deployments_by_seq", "seq", unique=True),
)

deployment_history = Table(  # every record that has held
    "deployment_history",
    LEDGER,
    Column("name", Key, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("record", Text, nullable=False),  # JSON
)

events = Table(
    "events",
    EVENTS,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("task_id", Key, nullable=False),
    Column("at", Double, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),  # 0: not recorded
    Column("number", Integer, nullable=False, server_default="0"),  # among its kind and attempt
    _index("events_by_task", "task_id", "seq"),
    _partial("events_progress", "task_id", "seq", where="type = 'progress'"),
    sqlite_autoincrement=True,
)


def _marks(name: str, metadata: MetaData) -> Table:
    """The last group that each writer has begun and committed: see ``postgres``."""
    return Table(
        name,
        metadata,
        Column("writer", Text, primary_key=True),
        Column("number", BigInteger, nullable=False),
        Column("at", Double, nullable=False),
    )


ledger_marks = _marks("ledger_marks", LEDGER)
event_marks = _marks("event_marks", EVENTS)
