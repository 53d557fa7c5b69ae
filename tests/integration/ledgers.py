"""Ledgers for the contract tests: each test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skipper.ledger import tasks
from skipper.ledger.connection import Connection, Statement
from skipper.ledger.records import Claim, Ending, NewTask
from skipper.ledger.schema import EVENTS, LEDGER
from skipper.task import State, new_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.integration.services import project_name

HOST = "host-1"
POOL = "cpu"
INPUT = Value(inline=b"{}")


@dataclass(frozen=True)
class Place:
    """Where a ledger lies, to open it again or elsewhere."""

    url: str
    schema: str

    def open(self, *, patience_s: float = 10.0) -> BlockingLedger:
        return BlockingLedger.open(self.url, schema=self.schema, patience_s=patience_s)

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")


def _empty_place(request: pytest.FixtureRequest, folder: Path) -> Place:
    if request.param == "sqlite":
        return Place(f"sqlite:///{folder / 'ledger.db'}", "unused")
    return Place(request.getfixturevalue("postgres_url"), f"skipper_{project_name()}-1")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where no ledger is yet."""
    return _empty_place(request, tmp_path / "state")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the ledger of all tests of a module lies."""
    return _empty_place(request, tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="module")
def module_ledger(place: Place) -> Iterator[BlockingLedger]:
    with place.open() as ledger:
        yield ledger


@pytest.fixture
def ledger(module_ledger: BlockingLedger) -> BlockingLedger:
    """An empty ledger."""
    module_ledger.write_now(lambda conn: _empty(conn, _LEDGER), durable=False)
    module_ledger.record_now(lambda conn: _empty(conn, _EVENTS))
    return module_ledger


_LEDGER = [Statement(table.delete()) for table in LEDGER.sorted_tables if "marks" not in table.name]
_EVENTS = [Statement(table.delete()) for table in EVENTS.sorted_tables if "marks" not in table.name]


def _empty(conn: Connection, statements: list[Statement]) -> None:
    for statement in statements:
        conn.run(statement, {})


# --- tasks in every state --------------------------------------------------------------------


def new_task(**values: Any) -> NewTask:
    now = time.time()
    usual = {"id": new_id(), "function": "boston.train", "kind": "training", "pool": POOL}
    return NewTask(**{**usual, "created_at": now, "available_at": now, "input": INPUT, **values})


def accepted(ledger: BlockingLedger, **values: Any) -> str:
    new = new_task(**values)
    return ledger.write_now(lambda conn: tasks.accept(conn, new), durable=False).id


def claimed(
    ledger: BlockingLedger, task_id: str, host: str = HOST, now: float | None = None
) -> Claim:
    at = time.time() if now is None else now
    (claim,) = ledger.write_now(lambda conn: tasks.claim(conn, [task_id], host, at), durable=False)
    return claim


def finished(
    ledger: BlockingLedger, claim: Claim, state: State = State.SUCCEEDED, **values: Any
) -> State | None:
    ending, host = Ending(state=state, **values), claim.task.host
    assert host is not None
    return ledger.write_now(
        lambda conn: tasks.finish(conn, claim.task.id, claim.attempt, host, ending, time.time()),
        durable=False,
    )


def state_of(ledger: BlockingLedger, task_id: str) -> State:
    task = ledger.read_now(lambda conn: tasks.get(conn, task_id))
    assert task is not None
    return task.state


def task_in(ledger: BlockingLedger, state: State) -> str:
    """A task that has come to ``state`` by the usual way."""
    task_id = accepted(ledger, max_attempts=2, expires_at=time.time() + 1000)
    if state is State.CANCELLED:
        ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    elif state is State.EXPIRED:
        ledger.write_now(lambda conn: tasks.expire(conn, time.time() + 1001))
    elif state is not State.QUEUED:
        claim = claimed(ledger, task_id)
        if state is State.RETRYING:
            finished(ledger, claim, State.FAILED, retry_at=time.time() + 1000)
        elif state is not State.RUNNING:
            finished(ledger, claim, state)
    assert state_of(ledger, task_id) is state
    return task_id
