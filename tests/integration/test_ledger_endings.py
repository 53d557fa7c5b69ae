"""An end that a webhook wants: recorded with it, settled once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import pytest

from skipper.ledger import Connection, endings, tasks
from skipper.ledger.leases import rescue
from skipper.ledger.records import NewTask
from skipper.task import TERMINAL, State
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    Place,
    accepted,
    claimed,
    finished,
    ledger,
    module_ledger,
    new_task,
    place,
    state_of,
    task_in,
)

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


def interest(function: str, state: str) -> bool:
    return function == "boston.train" and state != "expired"


@pytest.fixture(scope="module")
def module_listening(place: Place) -> Iterator[BlockingLedger]:
    with BlockingLedger.open(place.url, schema=place.schema, interest=interest) as opened:
        yield opened


@pytest.fixture
def listening(ledger: BlockingLedger, module_listening: BlockingLedger) -> BlockingLedger:
    """An empty ledger that records ends."""
    del ledger  # which was emptied
    return module_listening


def waiting(ledger: BlockingLedger, limit: int = 100) -> list[str]:
    return ledger.read_now(lambda conn: endings.waiting(conn, limit))


@pytest.mark.parametrize("state", State)
def test_an_end_that_is_of_interest_is_recorded_and_nothing_else(
    listening: BlockingLedger, state: State
) -> None:
    task_id = task_in(listening, state)
    is_recorded = state.is_terminal and state is not State.EXPIRED
    assert waiting(listening) == [task_id] * is_recorded


def test_what_a_lost_host_leaves_behind_is_recorded_where_it_ends(
    listening: BlockingLedger,
) -> None:
    cancelled, crashed, queued = (accepted(listening) for _ in range(3))
    for task_id in (cancelled, crashed, queued):
        claimed(listening, task_id)
    listening.write_now(lambda conn: tasks.cancel(conn, cancelled, time.time()))
    for _ in range(tasks.MAX_LOSSES):
        listening.write_now(partial(tasks.release, host=HOST, ids=[crashed], now=1.0, lost=True))
        claimed(listening, crashed)
    listening.write_now(lambda conn: rescue(conn, HOST, time.time()))
    assert state_of(listening, queued) is State.QUEUED
    assert waiting(listening) == [cancelled, crashed]


def test_a_retry_is_no_end(listening: BlockingLedger) -> None:
    claim = claimed(listening, accepted(listening, max_attempts=2))
    finished(listening, claim, State.FAILED, retry_at=1.0)
    assert waiting(listening) == []
    finished(listening, claimed(listening, claim.task.id), State.FAILED, retry_at=1.0)
    assert waiting(listening) == [claim.task.id]


def test_without_interest_nothing_is_recorded(ledger: BlockingLedger) -> None:
    for state in TERMINAL:
        task_in(ledger, state)
    assert waiting(ledger) == []


def test_a_record_stands_and_falls_with_the_end(listening: BlockingLedger) -> None:
    task_id = accepted(listening)

    def fail(conn: Connection) -> None:
        tasks.cancel(conn, task_id, time.time())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        listening.write_now(fail)
    assert state_of(listening, task_id) is State.QUEUED
    accepted(listening)  # another transaction of the same writer
    assert waiting(listening) == []


def test_the_oldest_come_first(listening: BlockingLedger) -> None:
    ids = [task_in(listening, State.SUCCEEDED) for _ in range(3)]
    assert waiting(listening, 2) == ids[:2]


# --- settling --------------------------------------------------------------------------------


def deliveries_of(*ids: str, each: int = 2) -> dict[str, list[NewTask]]:
    """The deliveries of these ends."""
    return {
        task_id: [new_task(function="w.deliver", parent_id=task_id) for _ in range(each)]
        for task_id in ids
    }


def delivered(ledger: BlockingLedger) -> list[str]:
    """The ends that have accepted deliveries."""
    found, _ = ledger.read_now(lambda conn: tasks.page(conn, function="w.deliver", limit=200))
    return sorted(task.parent_id or "" for task in found)


def test_a_record_is_exchanged_for_deliveries(listening: BlockingLedger) -> None:
    first, second, third = (task_in(listening, State.FAILED) for _ in range(3))
    deliveries = deliveries_of(first, third)
    settled = listening.write_now(lambda conn: endings.settle(conn, deliveries))
    assert sorted(settled) == [first, third]
    assert waiting(listening) == [second]
    assert delivered(listening) == [first, first, third, third]


def test_a_record_that_nobody_wants_any_more_is_deleted(listening: BlockingLedger) -> None:
    task_id = task_in(listening, State.FAILED)
    assert listening.write_now(lambda conn: endings.settle(conn, {task_id: []})) == [task_id]
    assert waiting(listening) == []


def test_what_is_settled_is_not_settled_again(listening: BlockingLedger) -> None:
    task_id = task_in(listening, State.FAILED)
    for settled in ([task_id], []):
        settle = partial(endings.settle, deliveries=deliveries_of(task_id))
        assert listening.write_now(settle) == settled
    assert delivered(listening) == [task_id, task_id]


def test_who_dies_while_settling_leaves_the_record(listening: BlockingLedger) -> None:
    task_id = task_in(listening, State.FAILED)

    def die(conn: Connection) -> None:
        assert endings.settle(conn, deliveries_of(task_id)) == [task_id]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        listening.write_now(die)
    assert waiting(listening) == [task_id]
    assert delivered(listening) == []


async def test_of_schedulers_that_race_each_end_is_settled_by_one(
    place: Place, listening: BlockingLedger
) -> None:
    ids = [task_in(listening, State.SUCCEEDED) for _ in range(20)]
    others = [place.open() for _ in range(2)]

    async def settle(ledger: BlockingLedger) -> list[str]:
        found = await ledger.read(partial(endings.waiting, limit=100))
        return await ledger.write(partial(endings.settle, deliveries=deliveries_of(*found, each=1)))

    settled = await asyncio.gather(*map(settle, [listening, *others] * 4))
    for other in others:
        await asyncio.to_thread(other.close)
    while left := waiting(listening):  # one that another was settling was left to it
        settled.append(
            listening.write_now(partial(endings.settle, deliveries=deliveries_of(*left, each=1)))
        )
    assert sorted(task_id for some in settled for task_id in some) == ids
    assert delivered(listening) == ids
