"""What every ledger promises of hosts, events and retention: see test_ledger_contract."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import sqlalchemy as sa

from skipper.ledger import events, hosts, leases, retention, tasks, totals
from skipper.ledger.connection import Statement
from skipper.ledger.records import Beat, Cut, Ending, HostRecord, NewEvent, Pruned
from skipper.ledger.schema import event_marks, ledger_marks
from skipper.task import State, new_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    POOL,
    Place,
    accepted,
    claimed,
    ledger,
    module_ledger,
    place,
    task_in,
)

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


# --- hosts -----------------------------------------------------------------------------------


def host(host_id: str, seat: str = "m/cpu") -> HostRecord:
    return HostRecord(id=host_id, pool=POOL, machine="m", seat=seat, started_at=time.time())


def test_a_heartbeat_counts_until_the_host_is_dropped(ledger: BlockingLedger) -> None:
    ledger.write_now(lambda conn: hosts.register(conn, host("a")))
    assert ledger.read_now(hosts.beats) == [Beat("a", POOL, 0)]
    assert ledger.write_now(lambda conn: hosts.beat(conn, "a"), durable=False)
    assert ledger.read_now(hosts.beats) == [Beat("a", POOL, 1)]
    ledger.write_now(lambda conn: hosts.drop(conn, "a"))
    assert not ledger.write_now(lambda conn: hosts.beat(conn, "a"), durable=False)
    assert ledger.read_now(hosts.beats) == []


def test_who_takes_a_seat_learns_who_had_it(ledger: BlockingLedger) -> None:
    assert ledger.write_now(lambda conn: hosts.register(conn, host("a"))) == []
    assert ledger.write_now(lambda conn: hosts.register(conn, host("b", "m/gpu"))) == []
    assert ledger.write_now(lambda conn: hosts.register(conn, host("c"))) == ["a"]
    task_id = accepted(ledger)
    claimed(ledger, task_id, "a")
    (released,) = ledger.write_now(lambda conn: leases.rescue(conn, "a", time.time()))
    assert released.id == task_id
    assert ledger.write_now(lambda conn: hosts.register(conn, host("c"))) == []


def test_tasks_of_hosts_that_are_not_registered_come_to_light(ledger: BlockingLedger) -> None:
    ledger.write_now(lambda conn: hosts.register(conn, host("a")))
    claimed(ledger, accepted(ledger), "a")
    assert ledger.read_now(hosts.unregistered) == []
    claimed(ledger, accepted(ledger), "ghost")
    claimed(ledger, accepted(ledger), "ghost")
    assert ledger.read_now(hosts.unregistered) == ["ghost"]


# --- events ----------------------------------------------------------------------------------


def append(
    ledger: BlockingLedger, task_id: str, *kinds: str, at: float = 1.0, attempt: int = 1
) -> list[int]:
    """Write events whose data count from 0 and whose numbers count from 1."""
    rows = [
        NewEvent(
            task_id=task_id,
            attempt=attempt,
            number=number + 1,
            at=at,
            type=kind,
            data={"n": number},
        )
        for number, kind in enumerate(kinds)
    ]
    return ledger.record_now(lambda conn: events.append(conn, rows))


def test_events_come_back_in_order_and_from_where_one_left_off(ledger: BlockingLedger) -> None:
    append(ledger, "a", "state", "log")
    append(ledger, "b", "state")
    append(ledger, "a", "progress")
    found = ledger.read_events_now(lambda conn: events.after(conn, "a", 0, 10).events)
    assert [event.type for event in found] == ["state", "log", "progress"]
    assert [event.data for event in found] == [{"n": 0}, {"n": 1}, {"n": 0}]
    assert [event.seq for event in found] == sorted({event.seq for event in found})
    rest = ledger.read_events_now(lambda conn: events.after(conn, "a", found[0].seq, 1).events)
    assert rest == [found[1]]


@pytest.mark.parametrize(
    ("limit", "most", "number", "has_more"),
    [
        (10, None, 3, False),
        (3, None, 3, True),
        (2, None, 2, True),
        (10, 1, 1, True),
        (10, 10, 2, True),
        (10, 1000, 3, False),
    ],
)
def test_a_batch_of_events_is_bounded_in_number_and_in_bytes(
    ledger: BlockingLedger, limit: int, most: int | None, number: int, has_more: bool
) -> None:
    append(ledger, "a", "log", "log", "log")  # each with 8 bytes of data
    batch = ledger.read_events_now(lambda conn: events.after(conn, "a", 0, limit, most))
    assert (len(batch.events), batch.has_more) == (number, has_more)


def test_the_latest_progress_is_found_among_other_events(ledger: BlockingLedger) -> None:
    assert ledger.read_events_now(lambda conn: events.progress(conn, "a")) is None
    append(ledger, "a", "progress", "progress", "log", "log")
    found = ledger.read_events_now(lambda conn: events.progress(conn, "a"))
    assert found is not None
    assert found.data == {"n": 1}


def test_lines_are_found_among_other_events_and_by_their_attempt(ledger: BlockingLedger) -> None:
    append(ledger, "a", "log", "metric", "log")
    append(ledger, "a", "progress", "log", attempt=2)
    append(ledger, "b", "log")

    def lines(since: int = 0, limit: int = 10, attempt: int | None = None) -> list[tuple[int, int]]:
        found = ledger.read_events_now(lambda conn: events.lines(conn, "a", since, limit, attempt))
        assert all(event.is_log for event in found)
        return [(event.attempt, event.number) for event in found]

    assert lines() == [(1, 1), (1, 3), (2, 2)]
    assert lines(limit=2) == [(1, 1), (1, 3)]
    assert lines(attempt=2) == [(2, 2)]
    assert lines(attempt=3) == []


def test_the_last_numbers_up_to_a_place_are_told_by_attempt_and_kind(
    ledger: BlockingLedger,
) -> None:
    first = append(ledger, "a", "log", "log", "metric")
    second = append(ledger, "a", "log", attempt=2)
    append(ledger, "a", "log", "log", attempt=2)

    def numbers(seq: int) -> dict[tuple[int, bool], int]:
        return ledger.read_events_now(lambda conn: events.numbers(conn, "a", seq))

    assert numbers(first[0]) == {(1, True): 1}
    assert numbers(second[0]) == {(1, True): 2, (1, False): 3, (2, True): 1}


@pytest.mark.parametrize(("is_log", "kept"), [(True, [1, 2, 5]), (False, [1, 3, 4, 5])])
def test_a_cut_takes_out_what_one_attempt_said_of_one_kind(
    ledger: BlockingLedger, is_log: bool, kept: list[int]
) -> None:
    seqs = append(ledger, "a", "log", "metric", "log", "log", "log")
    append(ledger, "a", "log", attempt=2)
    append(ledger, "b", "log")
    taken = Cut("a", 1, is_log, seqs[1], seqs[3])
    ledger.record_now(lambda conn: events.cut(conn, [taken]))
    found = ledger.read_events_now(lambda conn: events.after(conn, "a", 0, 10).events)
    assert [event.number for event in found if event.attempt == 1] == kept
    assert sum(event.attempt == 2 for event in found) == 1
    assert len(ledger.read_events_now(lambda conn: events.after(conn, "b", 0, 10).events)) == 1


def test_events_go_with_their_tasks_bit_by_bit_and_numbers_are_not_used_again(
    ledger: BlockingLedger,
) -> None:
    (*_, last) = append(ledger, "a", *["log"] * 3)
    append(ledger, "b", "log")
    append(ledger, "c", "log")
    forget = [ledger.record_now(lambda conn: events.forget(conn, ["a", "b"], 3)) for _ in range(3)]
    assert forget == [3, 1, 0]
    (new,) = append(ledger, "a", "log")
    assert new > last
    assert len(ledger.read_events_now(lambda conn: events.after(conn, "c", 0, 10).events)) == 1


async def test_a_reader_of_events_never_misses_one_that_is_written_beside_it(
    place: Place, ledger: BlockingLedger
) -> None:
    """Numbers become visible in order, whichever process wrote them."""
    other = place.open()
    writers = [
        asyncio.create_task(_write_events(which, 40)) for which in (ledger, other) for _ in range(3)
    ]
    seen: list[int] = []
    while len(seen) < 240:
        last = seen[-1] if seen else 0
        found = await ledger.read_events(
            lambda conn, last=last: events.after(conn, "a", last, 1000).events  # type: ignore[misc]  # binds the loop's value
        )
        seen += [event.seq for event in found]
        assert found or not all(task.done() for task in writers), "an event was missed"
    await asyncio.gather(*writers)
    await asyncio.to_thread(other.close)


async def _write_events(ledger: BlockingLedger, number: int) -> None:
    row = NewEvent(task_id="a", attempt=1, number=1, at=1.0, type="log", data={})
    for _ in range(number):
        await ledger.record(lambda conn: events.append(conn, [row]))


# --- retention -------------------------------------------------------------------------------


def ended_at(ledger: BlockingLedger, at: float, **values: Any) -> str:
    """A task that ended at ``at``. Its id is of now: ``before`` must be later to prune it."""
    task_id = accepted(ledger, **values)
    claim = claimed(ledger, task_id)
    finishing = Ending(state=State.SUCCEEDED, result=values.get("input"))
    ledger.write_now(
        lambda conn: tasks.finish(conn, task_id, claim.attempt, HOST, finishing, at), durable=False
    )
    return task_id


def prune(ledger: BlockingLedger, before: float, limit: int = 10) -> Pruned:
    old = ledger.read_now(lambda conn: retention.old(conn, before, limit))
    return ledger.write_now(lambda conn: retention.prune(conn, old, before))


def test_a_pruned_task_leaves_a_tombstone(ledger: BlockingLedger) -> None:
    soon = time.time() + 5
    old, young = ended_at(ledger, soon - 1), ended_at(ledger, soon + 1)
    unended = [task_in(ledger, state) for state in State if not state.is_terminal]
    assert not ledger.read_now(lambda conn: retention.is_gone(conn, old))
    assert prune(ledger, soon).ids == (old,)
    assert ledger.read_now(lambda conn: tasks.get(conn, old)) is None
    assert ledger.read_now(lambda conn: tasks.attempts(conn, old)) == []
    assert ledger.read_now(lambda conn: retention.is_gone(conn, old))
    for kept in (young, *unended, new_id()):
        assert not ledger.read_now(lambda conn, kept=kept: retention.is_gone(conn, kept))  # type: ignore[misc]  # binds the loop's value
    assert prune(ledger, soon).ids == ()


def test_pruning_goes_oldest_first_and_no_further_than_asked(ledger: BlockingLedger) -> None:
    soon = time.time() + 5
    ids = [ended_at(ledger, soon - 1) for _ in range(5)]
    assert [prune(ledger, soon, 2).ids for _ in range(3)] == [
        tuple(ids[:2]),
        tuple(ids[2:4]),
        (ids[4],),
    ]


def test_of_two_that_prune_the_same_tasks_one_takes_each(ledger: BlockingLedger) -> None:
    soon = time.time() + 5
    ids = [ended_at(ledger, soon - 1) for _ in range(3)]
    first = ledger.write_now(lambda conn: retention.prune(conn, ids[:2], soon))
    second = ledger.write_now(lambda conn: retention.prune(conn, ids, soon))
    assert (first.ids, second.ids) == (tuple(ids[:2]), tuple(ids[2:]))


def test_a_blob_that_is_no_tasks_is_found(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger, input=Value(ref="input"))
    claim = claimed(ledger, task_id)
    ending = Ending(state=State.SUCCEEDED, result=Value(ref="result"))
    ledger.write_now(lambda conn: tasks.finish(conn, task_id, claim.attempt, HOST, ending, 1.0))
    unused = ledger.read_now(lambda conn: retention.unused(conn, ["input", "result", "left"]))
    assert unused == {"left"}


def test_a_blob_goes_with_the_last_task_that_refers_to_it(ledger: BlockingLedger) -> None:
    soon = time.time() + 5
    ended_at(ledger, soon - 1, input=Value(ref="mine"))
    ended_at(ledger, soon - 1, input=Value(ref="shared"))
    accepted(ledger, input=Value(ref="shared"))
    assert prune(ledger, soon).refs == ("mine",)


def test_totals_outlive_the_tasks_they_count(ledger: BlockingLedger) -> None:
    soon = time.time() + 5
    ended_at(ledger, soon - 1)
    before = ledger.read_now(totals.read)
    prune(ledger, soon)
    assert ledger.read_now(totals.read) == before != {}


def test_marks_of_writers_that_are_gone_are_forgotten(place: Place, ledger: BlockingLedger) -> None:
    with place.open() as other:
        accepted(other)
        append(other, "a", "log")
    ledger.write_now(lambda conn: retention.forget(conn, time.time() + 10, 10))
    ledger.record_now(lambda conn: events.forget_marks(conn, time.time() + 10))
    assert ledger.read_now(lambda conn: conn.run(writers_in(ledger_marks), {})) == []
    assert ledger.read_events_now(lambda conn: conn.run(writers_in(event_marks), {})) == []
    accepted(ledger)


def writers_in(table: sa.Table) -> Statement:
    return Statement(sa.select(table.c.writer))


def test_tombstones_are_forgotten_in_the_end(ledger: BlockingLedger) -> None:
    soon = time.time() + 5
    task_id = ended_at(ledger, soon - 1)
    prune(ledger, soon)
    assert ledger.write_now(lambda conn: retention.forget(conn, soon, 10)) == 0
    assert ledger.write_now(lambda conn: retention.forget(conn, soon + 1, 10)) == 1
    assert not ledger.read_now(lambda conn: retention.is_gone(conn, task_id))
