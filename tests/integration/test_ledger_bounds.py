"""No more tasks of a function run at once than may, on SQLite and on PostgreSQL.

Runs that overlap in spite of a bound are https://github.com/PrefectHQ/prefect/issues/12015.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from skipper.ledger import tasks
from skipper.ledger.records import Claiming
from skipper.task import State, new_id
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
    place,
    state_of,
)

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


def bounded(ledger: BlockingLedger, bound: int = 1, key: str = "", **values: Any) -> str:
    return accepted(ledger, concurrency=bound, concurrency_key=key, **values)


def claim(ledger: BlockingLedger, *ids: str, host: str = HOST) -> list[str]:
    """Which of these tasks the host gets."""
    found = ledger.write_now(lambda conn: tasks.claim(conn, ids, host, time.time()))
    return [each.task.id for each in found]


def waiting(ledger: BlockingLedger, each: int = 100) -> list[str]:
    found = ledger.read_now(lambda conn: tasks.waiting(conn, POOL, time.time(), each))
    return [task.id for task in found]


def test_no_more_than_may_are_claimed_and_the_first_go_first(ledger: BlockingLedger) -> None:
    ids = [bounded(ledger, 2) for _ in range(4)]
    urgent = bounded(ledger, 2, priority=5)
    free = [accepted(ledger) for _ in range(2)]
    got = claim(ledger, *ids, urgent, *free)
    assert sorted(got) == sorted([ids[0], urgent, *free])
    assert claim(ledger, *ids, host="host-2") == []


@pytest.mark.parametrize(
    "how", ["succeeds", "fails", "is retried", "is lost", "is given back", "is cancelled"]
)
def test_whatever_ends_an_attempt_lets_the_next_task_start(
    ledger: BlockingLedger, how: str
) -> None:
    first, second = bounded(ledger, max_attempts=2), bounded(ledger)
    run = claimed(ledger, first)
    assert claim(ledger, second) == []
    now = time.time()
    if how in ("is lost", "is given back"):
        lost = how == "is lost"
        ledger.write_now(lambda conn: tasks.release(conn, HOST, [first], now, lost=lost))
    elif how == "is cancelled":
        ledger.write_now(lambda conn: tasks.cancel(conn, first, now))
        assert claim(ledger, second) == []  # it runs until its host has stopped it
        finished(ledger, run, State.CANCELLED)
    else:
        state = State.SUCCEEDED if how == "succeeds" else State.FAILED
        finished(ledger, run, state, retry_at=now + 1000 if how == "is retried" else None)
    assert claim(ledger, second) == [second]


def test_each_key_and_each_function_counts_by_itself(ledger: BlockingLedger) -> None:
    ann, bob = [[bounded(ledger, key=key) for _ in range(2)] for key in ("ann", "bob")]
    other = bounded(ledger, function="boston.other", key="ann")
    assert sorted(claim(ledger, *ann, *bob, other)) == sorted([ann[0], bob[0], other])


def test_what_may_not_start_is_neither_found_nor_published(ledger: BlockingLedger) -> None:
    first, second, third = bounded(ledger), bounded(ledger), bounded(ledger, key="else")
    assert waiting(ledger) == [first, second, third]
    run = claimed(ledger, first)
    later = time.time() + 100
    published = ledger.write_now(lambda conn: tasks.unpublished(conn, later, later, 100))
    assert waiting(ledger) == [third]
    assert [task_id for task_id, _ in published] == [third]
    finished(ledger, run)
    assert waiting(ledger) == [second, third]


def test_tasks_of_a_full_bound_do_not_hide_others_behind_them(ledger: BlockingLedger) -> None:
    claimed(ledger, bounded(ledger))
    for _ in range(20):
        bounded(ledger)
    last = bounded(ledger, key="else")
    assert waiting(ledger, each=3) == [last]


def test_what_is_not_due_takes_no_place(ledger: BlockingLedger) -> None:
    delayed = bounded(ledger, available_at=time.time() + 1000)
    due = bounded(ledger)
    assert claim(ledger, delayed, due) == [due]


def test_a_task_that_is_run_again_is_bounded_as_before(ledger: BlockingLedger) -> None:
    first = bounded(ledger, key="ann")
    finished(ledger, claimed(ledger, first), State.FAILED)
    again = ledger.write_now(lambda conn: tasks.requeue(conn, first, time.time()))
    assert again is not None
    claimed(ledger, bounded(ledger, key="ann"))
    assert claim(ledger, again.id) == []


def test_hosts_that_claim_at_the_same_time_never_run_more_than_may(
    place: Place, ledger: BlockingLedger
) -> None:
    bound, rounds = 2, 25
    ids = [bounded(ledger, bound, key=str(number % 2)) for number in range(4 * rounds)]

    def work(number: int) -> int:
        """Claim and end tasks until none is left; the most that ran at once of one key."""
        host, most = f"host-{number}", 0
        with place.open() as own:
            while left := own.read_now(lambda conn: tasks.waiting(conn, POOL, time.time(), 8)):
                claiming = Claiming(ids=tuple(t.id for t in left), host=host, now=time.time())
                (claims,) = own.write_now(lambda conn, it=claiming: tasks.claim_all(conn, [it]))  # type: ignore[misc]  # binds the loop's value
                if claims:
                    most = max(most, running(own))
                for each in claims:
                    finished(own, each)
        return most

    with ThreadPoolExecutor(4) as pool:
        most = max(pool.map(work, range(4)))
    assert {state_of(ledger, task_id) for task_id in ids} == {State.SUCCEEDED}
    assert 1 <= most <= 2 * bound


def running(ledger: BlockingLedger) -> int:
    counts = ledger.read_now(tasks.counts)
    return counts.get((POOL, State.RUNNING), 0)


def test_an_id_that_is_no_task_is_left_out(ledger: BlockingLedger) -> None:
    known = bounded(ledger)
    assert claim(ledger, new_id(), known) == [known]
