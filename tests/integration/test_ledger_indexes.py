"""Look-ups stay quick in a ledger of any size."""

from __future__ import annotations

import re
from typing import Any

import pytest

from skipper.ledger import (
    bounds,
    checkpoints,
    deployments,
    endings,
    events,
    families,
    retention,
    schedules,
    sweeps,
    tasks,
    views,
)
from skipper.ledger.connection import Connection, Statement
from skipper.ledger.postgres import PostgresConnection
from skipper.ledger.sqlite import SqliteConnection
from tests.blocking import BlockingLedger
from tests.integration.ledgers import ledger, module_ledger, place

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


LOOK_UPS: dict[str, tuple[Statement, str]] = {
    "claim": (tasks._CLAIM, "pkey|autoindex_tasks"),
    "claim of what is bounded": (tasks._CLAIM_BOUNDED, "pkey|autoindex_tasks"),
    "what is bounded": (bounds._WAITING, "pkey|autoindex_tasks"),
    "finish": (tasks._END, "pkey|autoindex_tasks"),
    "waiting": (views._READY, "tasks_ready"),
    "number that waits": (views._NUMBER_WAITING, "tasks_by_function"),
    "functions that wait": (views._FUNCTIONS, "tasks_ready"),
    "waiting, due": (views._DUE, "tasks_delayed"),
    "page": (views._PAGES[False, False], "pkey|autoindex_tasks"),
    "page of a function": (views._PAGES[True, False], "tasks_by_function|tasks_by_state"),
    "page of a function and state": (views._PAGES[True, True], "tasks_by_function|tasks_by_state"),
    "page of a state": (views._PAGES[False, True], "tasks_by_state"),
    "page of a schedule": (views._PAGES_OF_SCHEDULE[False, False], "tasks_by_schedule"),
    "page of a schedule and state": (
        views._PAGES_OF_SCHEDULE[False, True],
        "tasks_by_schedule|tasks_by_state",
    ),
    "bound of one that waits": (bounds._RUNNING, "tasks_bounded|tasks_running"),
    "runs that go on": (schedules._GOING_ON, "tasks_going_on"),
    "children": (families._CHILDREN, "tasks_by_parent"),
    "running": (views._RUNNING_ON, "tasks_running"),
    "release": (tasks._RELEASE_ALL, "tasks_running"),
    "unpublished": (sweeps._UNPUBLISHED, "tasks_published"),
    "due": (sweeps._DUE, "tasks_delayed"),
    "expire": (sweeps._EXPIRE, "tasks_expiring"),
    "ends without deliveries": (endings._WAITING, "endings_pkey|autoindex_endings"),
    "settle": (endings._TAKE, "endings_pkey|autoindex_endings"),
    "model that serves": (deployments._GET, "pkey|autoindex_deployments"),
    "deployed since": (deployments._CHANGED, "deployments_by_seq"),
    "records that have held": (deployments._HISTORY, "pkey|autoindex_deployment_history"),
    "checkpoints of a task": (checkpoints._KEPT, "autoindex_checkpoints|pkey|checkpoints_kept"),
    "last checkpoint of a task": (checkpoints._NEWEST, "autoindex_checkpoints|pkey|_kept"),
    "bytes of checkpoints": (checkpoints._STORED, "checkpoints_kept"),
    "dropped checkpoints": (checkpoints._FIND_DROPPED, "checkpoints_dropped"),
    "prune": (retention._OLD, "pkey|autoindex_tasks"),
}


SORTED = (
    "waiting, due",
    "page of a function",
    "what is bounded",
    "children",
)  # a few rows, whatever the table holds


@pytest.mark.parametrize("name", LOOK_UPS)
def test_look_ups_use_their_index_and_do_not_sort(ledger: BlockingLedger, name: str) -> None:
    statement, index = LOOK_UPS[name]
    plan = ledger.write_now(lambda conn: plan_of(conn, statement), durable=False)
    assert re.search(index, plan), plan
    assert not re.search("SCAN tasks(?! USING)|Seq Scan on tasks", plan), plan
    if name not in SORTED:
        assert not re.search("TEMP B-TREE FOR ORDER|Sort Key: tasks.*id", plan), plan


EVENT_LOOK_UPS: dict[str, tuple[Statement, str]] = {
    "after": (events._AFTER, "events_by_task"),
    "lines": (events._LINES, "events_by_task"),
    "numbers": (events._NUMBERS, "events_by_task"),
    "progress": (events._PROGRESS, "events_progress"),
    "cut": (events._CUT_LINES, "events_by_task|events_pkey|PRIMARY KEY"),
    "forget": (events._FORGET, "events_by_task"),
}


@pytest.mark.parametrize("name", EVENT_LOOK_UPS)
def test_look_ups_of_events_use_their_index(ledger: BlockingLedger, name: str) -> None:
    statement, index = EVENT_LOOK_UPS[name]
    plan = ledger.record_now(lambda conn: plan_of(conn, statement))
    assert re.search(index, plan), plan
    assert not re.search("SCAN events(?! USING)|Seq Scan on events", plan), plan


def plan_of(conn: Connection, statement: Statement) -> str:
    """What the database says it would do for ``statement``, if tables were large."""
    text = statement.text(conn.dialect)
    names = {*re.findall(r"%\((\w+)\)s", text), *re.findall(r"(?<!:):(\w+)", text)}
    params: dict[str, Any] = {
        name: 1.0 if name in _TIMES else _PARAMS.get(name, "x") for name in names
    }
    params |= {name: conn.ids(["x"]) for name in names & {"ids", "functions"}}
    if isinstance(conn, SqliteConnection):
        rows = conn._driver.execute("EXPLAIN QUERY PLAN " + text, params).fetchall()
        return "\n".join(row[-1] for row in rows)
    assert isinstance(conn, PostgresConnection)
    conn._driver.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    return "\n".join(str(row[0]) for row in conn._driver.execute("EXPLAIN " + text, params))


_TIMES = {"now", "older_than", "before", "retry_at"}
_PARAMS: dict[str, Any] = {
    **dict.fromkeys(
        ("limit", "attempt", "loss", "seq", "first_seq", "last_seq", "result_size", "revision"), 1
    ),
    "result": b"",
}
