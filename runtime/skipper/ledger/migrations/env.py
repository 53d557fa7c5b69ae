"""Alembic's entry: runs one store's migrations on the connection that ``migrate`` opened."""

from __future__ import annotations

from alembic import context

options = context.config.attributes
context.configure(
    connection=options["connection"],
    target_metadata=options["branch"].tables,
    version_table=options["branch"].version_table,
)
context.run_migrations()
