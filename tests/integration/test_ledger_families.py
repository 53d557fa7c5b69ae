"""A task that is cancelled takes those with it that it has started, in either database."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from skipper.ledger import tasks
from skipper.ledger.families import TOLD
from skipper.ledger.records import Cancelling
from skipper.task import State, Task
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    POOL,
    Place,
    accepted,
    claimed,
    finished,
    ledger,
    module_ledger,
    new_task,
    place,
    state_of,
)

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


def child(ledger: BlockingLedger, parent: str, *, detached: bool = False, **values: Any) -> str:
    return accepted(ledger, parent_id=parent, detached=int(detached), **values)


def cancel(ledger: BlockingLedger, task_id: str) -> Cancelling:
    found = ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    assert found is not None
    return found


def task(ledger: BlockingLedger, task_id: str) -> Task:
    found = ledger.read_now(lambda conn: tasks.get(conn, task_id))
    assert found is not None
    return found


def test_what_waits_and_what_runs_below_it_is_cancelled_all_the_way_down(
    ledger: BlockingLedger,
) -> None:
    parent = accepted(ledger)
    run = claimed(ledger, parent)
    waits, runs = child(ledger, parent), child(ledger, parent)
    below = claimed(ledger, runs)
    grandchild = child(ledger, runs)
    retries = child(ledger, parent, max_attempts=2)
    finished(ledger, claimed(ledger, retries), State.FAILED, retry_at=time.time() + 1000)

    found = cancel(ledger, parent)

    assert found.state is State.RUNNING
    assert found.running == tuple(sorted([(parent, POOL), (runs, POOL)]))
    states = [state_of(ledger, each) for each in (waits, grandchild, retries)]
    assert states == [State.CANCELLED] * 3
    assert finished(ledger, below, State.FAILED, retry_at=time.time()) is State.CANCELLED
    assert finished(ledger, run, State.CANCELLED, error={"detail": "stopped"}) is State.CANCELLED
    error = task(ledger, parent).error or {}
    assert error["detail"] == "stopped"
    assert sorted(error["cancelled"]) == sorted([waits, runs, grandchild, retries])
    assert (error["cancelled_count"], error["detached"]) == (4, [])


def test_what_is_detached_goes_on_with_all_below_it_and_is_told(ledger: BlockingLedger) -> None:
    parent = accepted(ledger)
    run = claimed(ledger, parent)
    alone, with_it = child(ledger, parent, detached=True), child(ledger, parent)
    claimed(ledger, alone)
    below = child(ledger, alone)
    cancel(ledger, parent)
    finished(ledger, run, State.CANCELLED)
    assert not task(ledger, alone).cancel_requested
    assert state_of(ledger, below) is State.QUEUED
    error = task(ledger, parent).error or {}
    assert (error["cancelled"], error["detached"]) == ([with_it], [alone])


def test_an_ended_child_is_left_and_what_it_has_started_is_not(ledger: BlockingLedger) -> None:
    parent = accepted(ledger)
    claimed(ledger, parent)
    middle = child(ledger, parent)
    run = claimed(ledger, middle)
    below = child(ledger, middle)
    finished(ledger, run)
    cancel(ledger, parent)
    assert state_of(ledger, middle) is State.SUCCEEDED
    assert state_of(ledger, below) is State.CANCELLED


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CRASHED])
def test_any_other_end_leaves_what_it_has_started(ledger: BlockingLedger, end: State) -> None:
    parent = accepted(ledger)
    run = claimed(ledger, parent)
    started = child(ledger, parent)
    finished(ledger, run, end)
    assert cancel(ledger, parent).already_ended
    assert state_of(ledger, started) is State.QUEUED
    assert task(ledger, parent).error is None


def test_one_that_waits_between_attempts_tells_of_its_family_at_once(
    ledger: BlockingLedger,
) -> None:
    parent = accepted(ledger, max_attempts=2)
    run = claimed(ledger, parent)
    started = child(ledger, parent)
    finished(ledger, run, State.FAILED, retry_at=time.time() + 1000)
    cancel(ledger, parent)
    assert (task(ledger, parent).error or {})["cancelled"] == [started]


def test_one_whose_host_is_lost_tells_of_its_family(ledger: BlockingLedger) -> None:
    parent = accepted(ledger)
    claimed(ledger, parent)
    started = child(ledger, parent)
    cancel(ledger, parent)
    ledger.write_now(lambda conn: tasks.release(conn, HOST, [parent], time.time(), lost=True))
    ended = task(ledger, parent)
    assert ended.state is State.CANCELLED
    assert (ended.error or {})["cancelled"] == [started]


@pytest.mark.parametrize("state", [State.RUNNING, State.CANCELLED])
def test_a_child_that_comes_after_the_cancel_is_cancelled_too(
    ledger: BlockingLedger, state: State
) -> None:
    parent = accepted(ledger)
    if state is State.RUNNING:
        claimed(ledger, parent)
    cancel(ledger, parent)
    assert state_of(ledger, child(ledger, parent)) is State.CANCELLED
    assert state_of(ledger, child(ledger, parent, idempotency_key="k")) is State.CANCELLED
    assert state_of(ledger, child(ledger, parent, detached=True)) is State.QUEUED


def test_of_a_child_and_a_cancel_at_the_same_time_neither_misses_the_other(
    place: Place, ledger: BlockingLedger
) -> None:
    for _ in range(10):
        parent = accepted(ledger)
        claimed(ledger, parent)
        news = [new_task(parent_id=parent) for _ in range(4)]
        meet = threading.Barrier(2, timeout=10.0)

        def accept(meet: threading.Barrier = meet, news: list[Any] = news) -> None:
            with place.open() as other:
                meet.wait()
                for new in news:
                    other.write_now(lambda conn, new=new: tasks.accept(conn, new))  # type: ignore[misc]  # binds the loop's value

        accepting = threading.Thread(target=accept)
        accepting.start()
        meet.wait()
        cancel(ledger, parent)
        accepting.join()
        assert {state_of(ledger, new.id) for new in news} == {State.CANCELLED}


def test_of_very_many_the_end_names_some_and_counts_all(ledger: BlockingLedger) -> None:
    parent = accepted(ledger, max_attempts=2)
    run = claimed(ledger, parent)
    for _ in range(TOLD + 1):
        child(ledger, parent)
    finished(ledger, run, State.FAILED, retry_at=time.time() + 1000)
    cancel(ledger, parent)
    error = task(ledger, parent).error or {}
    assert (len(error["cancelled"]), error["cancelled_count"]) == (TOLD, TOLD + 1)
