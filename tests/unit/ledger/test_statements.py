from __future__ import annotations

from types import ModuleType

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect

from skipper.ledger import (
    accepting,
    checkpoints,
    deployments,
    endings,
    events,
    hosts,
    leases,
    models,
    retention,
    sweeps,
    tasks,
    totals,
    views,
)
from skipper.ledger.connection import Statement, literal
from skipper.ledger.schema import tasks as t
from skipper.ledger.sqlite import SqliteConnection

MODULES = (
    accepting,
    checkpoints,
    deployments,
    endings,
    events,
    hosts,
    leases,
    models,
    retention,
    sweeps,
    tasks,
    totals,
    views,
)
DIALECTS: tuple[Dialect, ...] = (
    SqliteConnection.dialect,
    PGDialect_psycopg(),  # type: ignore[no-untyped-call]  # SQLAlchemy's own
)


def statements(module: ModuleType) -> list[Statement]:
    found = list(vars(module).values())
    found += [each for value in found if isinstance(value, dict) for each in value.values()]
    return [each for each in found if isinstance(each, Statement)]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_statement_compiles_for_both_databases(module: ModuleType, dialect: Dialect) -> None:
    assert statements(module)
    for statement in statements(module):
        assert statement.text(dialect)


def test_a_value_that_nobody_named_is_refused() -> None:
    with pytest.raises(AssertionError, match="queued"):
        Statement(sa.select(t.c.id).where(t.c.state == "queued")).text(DIALECTS[0])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_literals_stand_in_the_text(dialect: Dialect) -> None:
    statement = Statement(sa.select(t.c.id).where(t.c.state == literal("queued")))
    assert "state = 'queued'" in statement.text(dialect)
