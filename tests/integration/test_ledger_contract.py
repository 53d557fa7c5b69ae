"""What every ledger promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from skipper.ledger import leases, tasks, totals
from skipper.ledger.connection import Connection, Total
from skipper.ledger.records import (
    Accepted,
    Cancelling,
    Claim,
    Claiming,
    Ending,
    Finishing,
    Released,
    Started,
)
from skipper.task import TERMINAL, State, new_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    INPUT,
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
    task_in,
)

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services
LATER = 10_000.0
VALUES = [
    Value(inline=b"\x00\xff"),
    Value(inline=b""),
    Value(ref="sha256/ab"),
    Value(inline=b"a,b\n", media_type="text/csv"),
    Value(ref="sha256/cd", media_type="image/png"),
]
Change = Callable[[Connection, str], object]


def later() -> float:
    return time.time() + LATER


# --- the states ------------------------------------------------------------------------------


def _finish(state: State, retry_at: float | None = None) -> Change:
    ending = Ending(state=state, retry_at=retry_at)
    return lambda conn, task_id: tasks.finish(conn, task_id, 1, HOST, ending, time.time())


CHANGES: dict[str, Change] = {
    "claim": lambda conn, task_id: tasks.claim(conn, [task_id], HOST, time.time()),
    "claim when due": lambda conn, task_id: tasks.claim(conn, [task_id], HOST, later()),
    "succeed": _finish(State.SUCCEEDED),
    "fail": _finish(State.FAILED),
    "time out": _finish(State.TIMED_OUT),
    "crash": _finish(State.CRASHED),
    "end cancelled": _finish(State.CANCELLED),
    "fail, retry": _finish(State.FAILED, retry_at=4e9),
    "release": lambda conn, _: tasks.release(conn, HOST, None, time.time(), lost=False),
    "lose": lambda conn, _: tasks.release(conn, HOST, None, time.time(), lost=True),
    "cancel": lambda conn, task_id: tasks.cancel(conn, task_id, time.time()),
    "expire": lambda conn, _: tasks.expire(conn, later()),
    "due": lambda conn, _: tasks.due(conn, later(), 10),
    "publish": lambda conn, _: tasks.unpublished(conn, later(), later(), 10),
}
LEADS_TO = {
    State.QUEUED: {
        "claim": State.RUNNING,  # and not "when due": it has expired by then
        "cancel": State.CANCELLED,
        "expire": State.EXPIRED,
    },
    State.RUNNING: {
        "succeed": State.SUCCEEDED,
        "fail": State.FAILED,
        "time out": State.TIMED_OUT,
        "crash": State.CRASHED,
        "end cancelled": State.CANCELLED,
        "fail, retry": State.RETRYING,
        "release": State.QUEUED,
        "lose": State.QUEUED,
    },
    State.RETRYING: {
        "claim when due": State.RUNNING,
        "cancel": State.CANCELLED,
        "due": State.QUEUED,
    },
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("state", State)
def test_a_state_leads_where_the_diagram_says_and_nowhere_else(
    ledger: BlockingLedger, state: State, change: str
) -> None:
    task_id = task_in(ledger, state)
    ledger.write_now(lambda conn: CHANGES[change](conn, task_id), durable=False)
    assert state_of(ledger, task_id) is LEADS_TO.get(state, {}).get(change, state)


@pytest.mark.parametrize("state", TERMINAL)
def test_a_task_that_has_ended_changes_in_nothing(ledger: BlockingLedger, state: State) -> None:
    task_id = task_in(ledger, state)
    before = ledger.read_now(lambda conn: tasks.result(conn, task_id))
    for change in CHANGES.values():
        ledger.write_now(lambda conn, change=change: change(conn, task_id), durable=False)  # type: ignore[misc]  # binds the loop's value
    assert ledger.read_now(lambda conn: tasks.result(conn, task_id)) == before


@pytest.mark.parametrize("state", TERMINAL)
def test_each_terminal_state_reached_is_counted_once(ledger: BlockingLedger, state: State) -> None:
    task_id = task_in(ledger, state)
    for change in CHANGES.values():
        ledger.write_now(lambda conn, change=change: change(conn, task_id), durable=False)  # type: ignore[misc]  # binds the loop's value
    counted = ledger.read_now(totals.read)
    assert counted == {Total("boston.train", POOL, state.value): 1}


# --- accept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_task_is_read_as_it_was_accepted(ledger: BlockingLedger, value: Value) -> None:
    new = new_task(
        input=value,
        max_attempts=3,
        priority=-2,
        timeout_s=1.5,
        parent_id=new_id(),
        request_id="r",
    )
    ledger.write_now(lambda conn: tasks.accept(conn, new))
    task = ledger.read_now(lambda conn: tasks.get(conn, new.id))
    assert task is not None
    shared = set(type(task).model_fields) & set(new.__dataclass_fields__)
    assert {name: getattr(task, name) for name in shared} == {
        name: getattr(new, name) for name in shared
    }
    claim = claimed(ledger, new.id)
    assert claim.input == value


def test_accepting_the_same_id_again_changes_nothing(ledger: BlockingLedger) -> None:
    new = new_task()
    for _ in range(2):
        assert ledger.write_now(lambda conn: tasks.accept(conn, new)) == Accepted(id=new.id)
        claimed(ledger, new.id) if state_of(ledger, new.id) is State.QUEUED else None
    assert state_of(ledger, new.id) is State.RUNNING


def test_an_idempotency_key_belongs_to_the_first_task_that_brings_it(
    ledger: BlockingLedger,
) -> None:
    def accept(hash_: str) -> Accepted:
        new = new_task(idempotency_key="key", idempotency_hash=hash_)
        return ledger.write_now(lambda conn: tasks.accept(conn, new))

    first = accept("same")
    assert first.is_new
    earlier = ledger.read_now(lambda conn: tasks.get(conn, first.id))
    assert accept("same") == Accepted(id=first.id, earlier=earlier, matches=True)
    assert accept("other") == Accepted(id=first.id, earlier=earlier, matches=False)


async def test_a_key_that_comes_many_times_at_once_makes_one_task(
    place: Place, ledger: BlockingLedger
) -> None:
    other = place.open()
    news = [new_task(idempotency_key="k", idempotency_hash="h") for _ in range(40)]
    found = await asyncio.gather(
        *(
            (ledger, other)[number % 2].merge(tasks.accept_all, new)
            for number, new in enumerate(news)
        )
    )
    await asyncio.to_thread(other.close)
    assert len({each.id for each in found}) == 1
    assert [each.is_new for each in found].count(True) == 1


def test_a_delayed_task_waits_for_its_time(ledger: BlockingLedger) -> None:
    now = time.time()
    task_id = accepted(ledger, created_at=now, available_at=now + 50)
    assert ledger.write_now(lambda conn: tasks.claim(conn, [task_id], HOST, now + 49)) == []
    assert ledger.read_now(lambda conn: tasks.waiting(conn, POOL, now + 49, 10)) == []
    assert ledger.write_now(lambda conn: tasks.unpublished(conn, now + 49, now + 49, 10)) == []
    assert ledger.write_now(lambda conn: tasks.due(conn, now + 49, 10)) == []
    (waits,) = ledger.read_now(lambda conn: tasks.waiting(conn, POOL, now + 50, 10))
    assert waits.id == task_id
    assert ledger.write_now(lambda conn: tasks.due(conn, now + 50, 10)) == [(task_id, POOL)]
    assert state_of(ledger, task_id) is State.QUEUED


# --- claim and finish ------------------------------------------------------------------------


def test_a_claim_names_a_new_attempt_and_its_deadline(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger, timeout_s=30.0, depth=2)
    claim = claimed(ledger, task_id, now=5000.0)
    assert (claim.attempt, claim.spent, claim.depth) == (1, 0, 2)
    assert (claim.task.state, claim.task.host) == (State.RUNNING, HOST)
    assert (claim.task.started_at, claim.task.deadline_at) == (5000.0, 5030.0)


def test_a_deadline_is_put_right_when_the_function_starts(ledger: BlockingLedger) -> None:
    claim = claimed(ledger, accepted(ledger, timeout_s=30.0), now=5000.0)
    for deadline_at, shown in ((5042.5, 5042.5), (None, 5042.5)):
        started = Started(id=claim.task.id, attempt=1, host=HOST, deadline_at=deadline_at)
        ledger.write_now(lambda conn, started=started: tasks.started(conn, started))  # type: ignore[misc]  # binds the loop's value
        task = ledger.read_now(lambda conn: tasks.get(conn, claim.task.id))
        assert task is not None
        assert task.deadline_at == shown


def test_many_are_claimed_in_the_order_asked_for(ledger: BlockingLedger) -> None:
    ids = [accepted(ledger) for _ in range(5)]
    gone = claimed(ledger, ids[1]).task.id
    asked = [ids[3], "unknown", gone, ids[0], ids[3]]
    claims = ledger.write_now(lambda conn: tasks.claim(conn, asked, HOST, time.time()))
    assert [claim.task.id for claim in claims] == [ids[3], ids[0]]


def test_claims_that_are_made_together_are_told_apart(ledger: BlockingLedger) -> None:
    one, two, three = (accepted(ledger) for _ in range(3))
    now = time.time()
    wishes = [
        Claiming(ids=(one, two), host="a", now=now),
        Claiming(ids=(two, three), host="a", now=now),
        Claiming(ids=(three, one), host="b", now=now),
    ]
    found = ledger.write_now(lambda conn: tasks.claim_all(conn, wishes))
    assert [[claim.task.id for claim in claims] for claims in found] == [[one, two], [three], []]


def test_an_attempt_that_lost_its_task_changes_nothing(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger)
    old = claimed(ledger, task_id)
    ledger.write_now(lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True))
    assert finished(ledger, old) is None
    new = claimed(ledger, task_id)
    assert new.attempt == 2
    assert finished(ledger, old) is None
    late = Started(id=task_id, attempt=old.attempt, host=HOST, instance="i")
    assert not ledger.write_now(lambda conn: tasks.started(conn, late))
    assert finished(ledger, claimed_by(new, "host-2")) is None
    assert finished(ledger, new) is State.SUCCEEDED
    assert finished(ledger, new) is None


def claimed_by(claim: Claim, host: str) -> Claim:
    """The same claim in another host's hands."""
    return replace(claim, task=claim.task.model_copy(update={"host": host}))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_result_is_read_as_it_was_written(ledger: BlockingLedger, value: Value) -> None:
    claim = claimed(ledger, accepted(ledger))
    started = Started(id=claim.task.id, attempt=1, host=HOST, instance="i1", code="c1")
    assert ledger.write_now(lambda conn: tasks.started(conn, started))
    finished(ledger, claim, result=value, model="boston:3")
    found = ledger.read_now(lambda conn: tasks.result(conn, claim.task.id))
    assert found is not None
    assert found.value == value
    task = found.task
    assert (task.code, task.model, task.finished_at is not None) == ("c1", "boston:3", True)


def test_an_error_is_read_as_it_was_written(ledger: BlockingLedger) -> None:
    error = {"title": "naïve \u0000 \ud800", "frames": [{"line": 1}], "none": None}
    claim = claimed(ledger, accepted(ledger))
    finished(ledger, claim, State.FAILED, error=error)
    task = ledger.read_now(lambda conn: tasks.get(conn, claim.task.id))
    assert task is not None
    assert task.error == error


def test_retries_end_with_the_attempts(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger, max_attempts=3)
    outcomes = []
    for _ in range(3):
        claim = claimed(ledger, task_id, now=later())
        outcomes.append(
            finished(ledger, claim, State.FAILED, retry_at=time.time(), error={"title": "no"})
        )
    assert outcomes == [State.RETRYING, State.RETRYING, State.FAILED]
    found = ledger.read_now(lambda conn: tasks.attempts(conn, task_id))
    assert [(each.number, each.outcome) for each in found] == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]
    assert all(each.error == {"title": "no"} and each.ended_at for each in found)


def test_a_task_that_is_to_be_cancelled_is_not_tried_again(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger, max_attempts=5)
    claim = claimed(ledger, task_id)
    ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    assert finished(ledger, claim, State.FAILED, retry_at=time.time()) is State.CANCELLED


def test_endings_that_are_made_together_are_told_apart(ledger: BlockingLedger) -> None:
    claims = [claimed(ledger, accepted(ledger, max_attempts=2)) for _ in range(4)]
    endings = [
        Ending(state=State.SUCCEEDED),
        Ending(state=State.FAILED, retry_at=time.time()),
        Ending(state=State.SUCCEEDED),
        Ending(state=State.TIMED_OUT),
    ]
    wrong = [1, 1, 9, 1]
    asked = [
        Finishing(id=claim.task.id, attempt=attempt, host=HOST, ending=ending, now=time.time())
        for claim, ending, attempt in zip(claims, endings, wrong, strict=True)
    ]
    found = ledger.write_now(lambda conn: tasks.finish_all(conn, asked))
    assert found == [State.SUCCEEDED, State.RETRYING, None, State.TIMED_OUT]


def test_the_running_attempt_is_listed_after_those_that_ended(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger)
    claimed(ledger, task_id)
    ledger.write_now(lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True))
    claimed(ledger, task_id, "host-2")
    ledger.write_now(lambda conn: tasks.release(conn, "host-2", None, time.time(), lost=False))
    shown = [(1, HOST, "lost"), (2, "host-2", "released")]
    assert attempts_of(ledger, task_id) == shown
    claim = claimed(ledger, task_id, "host-3")
    assert attempts_of(ledger, task_id) == [*shown, (3, "host-3", None)]
    finished(ledger, claim)
    assert attempts_of(ledger, task_id) == [*shown, (3, "host-3", "succeeded")]


def attempts_of(ledger: BlockingLedger, task_id: str) -> list[tuple[int, str, str | None]]:
    found = ledger.read_now(lambda conn: tasks.attempts(conn, task_id))
    return [(each.number, each.host, each.outcome) for each in found]


def test_a_host_finds_what_it_is_held_to_run(ledger: BlockingLedger) -> None:
    ids = [accepted(ledger) for _ in range(3)]
    for task_id in ids[:2]:
        claimed(ledger, task_id)
    claimed(ledger, ids[2], "host-2")
    assert sorted(ledger.read_now(lambda conn: tasks.running(conn, HOST))) == [
        (task_id, 1) for task_id in ids[:2]
    ]


# --- release ---------------------------------------------------------------------------------


def test_released_tasks_wait_again_with_their_attempts_unspent(ledger: BlockingLedger) -> None:
    one, two = (accepted(ledger, max_attempts=1) for _ in range(2))
    claimed(ledger, one)
    claimed(ledger, two)
    released = ledger.write_now(
        lambda conn: tasks.release(conn, HOST, [one], time.time(), lost=False)
    )
    assert released == [Released(id=one, pool=POOL, state=State.QUEUED)]
    assert state_of(ledger, two) is State.RUNNING
    claim = claimed(ledger, one)
    assert (claim.attempt, claim.spent) == (2, 0)
    assert finished(ledger, claim) is State.SUCCEEDED


def test_what_keeps_losing_its_hosts_is_crashed(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger)
    states = []
    for _ in range(tasks.MAX_LOSSES + 1):
        claimed(ledger, task_id)
        (released,) = ledger.write_now(
            lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True), durable=False
        )
        states.append(released.state)
    assert states == [State.QUEUED] * tasks.MAX_LOSSES + [State.CRASHED]
    task = ledger.read_now(lambda conn: tasks.get(conn, task_id))
    assert task is not None
    assert task.error is not None
    assert task.finished_at is not None


def test_clean_shutdowns_are_no_losses(ledger: BlockingLedger) -> None:
    task_id = accepted(ledger)
    for _ in range(tasks.MAX_LOSSES + 5):
        claimed(ledger, task_id)
        ledger.write_now(
            lambda conn: tasks.release(conn, HOST, None, time.time(), lost=False), durable=False
        )
    assert state_of(ledger, task_id) is State.QUEUED


def test_a_lost_task_that_was_to_be_cancelled_is_cancelled(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    (released,) = ledger.write_now(
        lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True)
    )
    assert released.state is State.CANCELLED
    assert attempts_of(ledger, task_id) == [(1, HOST, "lost")]


# --- cancel ----------------------------------------------------------------------------------

CANCELLED = {
    State.QUEUED: Cancelling(state=State.CANCELLED),
    State.RETRYING: Cancelling(state=State.CANCELLED),
    State.RUNNING: Cancelling(state=State.RUNNING, host=HOST),
}


@pytest.mark.parametrize("state", State)
def test_cancel_tells_where_the_task_stands(ledger: BlockingLedger, state: State) -> None:
    task_id = task_in(ledger, state)
    found = ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    expected = CANCELLED.get(state, Cancelling(state=state, already_ended=True))
    running = ((task_id, POOL),) if state is State.RUNNING else ()
    assert found == replace(expected, running=running)


def test_a_cancel_of_a_running_task_is_seen_by_its_host(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    assert ledger.read_now(lambda conn: leases.cancel_requests(conn, HOST)) == []
    ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    assert ledger.read_now(lambda conn: leases.cancel_requests(conn, HOST)) == [task_id]


def test_an_unknown_task_is_none_to_everyone(ledger: BlockingLedger) -> None:
    unknown = new_id()
    assert ledger.write_now(lambda conn: tasks.cancel(conn, unknown, time.time())) is None
    assert ledger.write_now(lambda conn: tasks.requeue(conn, unknown, time.time())) is None
    assert ledger.read_now(lambda conn: tasks.get(conn, unknown)) is None
    assert ledger.read_now(lambda conn: tasks.result(conn, unknown)) is None
    assert ledger.read_now(lambda conn: tasks.attempts(conn, unknown)) == []


@pytest.mark.parametrize("state", State)
def test_only_what_has_ended_is_copied_to_be_run_again(
    ledger: BlockingLedger, state: State
) -> None:
    task_id = task_in(ledger, state)
    again = ledger.write_now(lambda conn: tasks.requeue(conn, task_id, time.time()))
    assert (again is not None) == state.is_terminal
    if again is not None:
        assert ledger.read_now(lambda conn: tasks.get(conn, again.id)) == again
        claim = claimed(ledger, again.id)
        assert (claim.input, claim.attempt, claim.task.max_attempts) == (INPUT, 1, 2)
        assert state_of(ledger, task_id) is state


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_copy_has_the_same_input(ledger: BlockingLedger, value: Value) -> None:
    task_id = accepted(ledger, input=value)
    ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    again = ledger.write_now(lambda conn: tasks.requeue(conn, task_id, time.time()))
    assert again is not None
    assert claimed(ledger, again.id).input == value


# --- what the scheduler and hosts look for -----------------------------------------------------


def test_waiting_is_ordered_by_priority_then_age(ledger: BlockingLedger) -> None:
    ids = [accepted(ledger, priority=priority) for priority in (0, 5, 0, 5, -1)]
    retry = accepted(ledger, max_attempts=2, priority=5)
    finished(ledger, claimed(ledger, retry), State.FAILED, retry_at=time.time())
    accepted(ledger, pool="gpu")
    expected = [ids[1], ids[3], retry, ids[0], ids[2], ids[4]]
    assert waiting(ledger, 10) == expected
    assert waiting(ledger, 2) == expected[:3]  # what has just come due is counted by itself


def test_the_first_of_every_function_that_waits_are_seen_behind_any_number_of_others(
    ledger: BlockingLedger,
) -> None:
    many = [accepted(ledger, function="a.many") for _ in range(9)]
    few = [accepted(ledger, function=f"{name}.few") for name in "bcc"]
    urgent = accepted(ledger, function="a.many", priority=1)
    assert waiting(ledger, 2) == [urgent, many[0], *few]
    assert waiting(ledger, 1) == [urgent, *few[:2]]


def test_what_has_expired_neither_waits_nor_starts(ledger: BlockingLedger) -> None:
    now = time.time()
    expired = [accepted(ledger, expires_at=now - 1), accepted(ledger, expires_at=now - 1)]
    ledger.write_now(lambda conn: tasks.due(conn, now, 10))
    in_time = accepted(ledger, expires_at=now + 100)
    assert waiting(ledger, 10) == [in_time]
    claims = ledger.write_now(lambda conn: tasks.claim(conn, [*expired, in_time], HOST, now))
    assert [(claim.task.id, claim.task.expires_at) for claim in claims] == [(in_time, None)]


def waiting(ledger: BlockingLedger, each: int) -> list[str]:
    found = ledger.read_now(lambda conn: tasks.waiting(conn, POOL, time.time() + 1, each))
    return [task.id for task in found]


def test_what_nobody_claimed_is_published_once_per_interval(ledger: BlockingLedger) -> None:
    now = time.time()
    old = [accepted(ledger, created_at=now - 10, available_at=now - 10) for _ in range(3)]
    accepted(ledger)
    first = ledger.write_now(lambda conn: tasks.unpublished(conn, now - 5, now, 2))
    second = ledger.write_now(lambda conn: tasks.unpublished(conn, now - 5, now, 2))
    third = ledger.write_now(lambda conn: tasks.unpublished(conn, now - 5, now, 2))
    assert (len(first), len(second), third) == (2, 1, [])
    assert sorted(first + second) == [(task_id, POOL) for task_id in old]


def test_what_a_clock_that_was_ahead_has_dated_is_published_and_retried_all_the_same(
    ledger: BlockingLedger,
) -> None:
    """The clock was a day ahead, and has been put back."""
    now, day = time.time(), 86400.0
    published = accepted(ledger, created_at=now + day, available_at=now + day)
    retried = accepted(ledger, max_attempts=2)
    finished(ledger, claimed(ledger, retried), State.FAILED, retry_at=now + day)
    delayed = accepted(ledger, available_at=now + day)
    fresh = accepted(ledger)
    moved = ledger.write_now(lambda conn: tasks.due(conn, now, 10))
    moved += ledger.write_now(lambda conn: tasks.unpublished(conn, now - 5, now, 10))
    assert dict(moved) == {published: POOL, retried: POOL}
    assert ledger.write_now(lambda conn: tasks.unpublished(conn, now - 5, now, 10)) == []
    assert [state_of(ledger, each) for each in (retried, delayed, fresh)] == [State.QUEUED] * 3
    assert {
        item.id for item in ledger.read_now(lambda conn: tasks.waiting(conn, POOL, now, 9))
    } == {
        published,
        retried,
        fresh,
    }


def test_only_what_was_never_started_expires(ledger: BlockingLedger) -> None:
    now = time.time()
    too_late = accepted(ledger, expires_at=now + 5)
    accepted(ledger, expires_at=now + 50)
    started = accepted(ledger, expires_at=now + 5)
    claimed(ledger, started)
    ledger.write_now(lambda conn: tasks.release(conn, HOST, None, now, lost=True))
    assert ledger.write_now(lambda conn: tasks.expire(conn, now + 5)) == [too_late]
    assert state_of(ledger, started) is State.QUEUED
    task = ledger.read_now(lambda conn: tasks.get(conn, too_late))
    assert task is not None
    assert "Nobody had started it" in (task.error or {})["detail"]


def test_counts_tell_what_has_not_ended_by_pool(ledger: BlockingLedger) -> None:
    for state in reversed(State):  # first the one that lets whatever is queued expire
        task_in(ledger, state)
    now = time.time()
    accepted(ledger, created_at=now, available_at=now + 100)
    accepted(ledger, pool="gpu")
    assert ledger.read_now(tasks.counts) == {
        (POOL, State.QUEUED): 2,
        (POOL, State.RUNNING): 1,
        (POOL, State.RETRYING): 1,
        ("gpu", State.QUEUED): 1,
    }


# --- pages -----------------------------------------------------------------------------------


def pages(ledger: BlockingLedger, limit: int, **filters: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        tasks_, cursor = ledger.read_now(
            lambda conn, cursor=cursor: tasks.page(conn, limit=limit, cursor=cursor, **filters)  # type: ignore[misc]  # binds the loop's value
        )
        found.append([task.id for task in tasks_])
        if cursor is None:
            return found


def test_pages_show_each_task_once_newest_first(ledger: BlockingLedger) -> None:
    ids = [accepted(ledger, function=f"f.{number % 2}") for number in range(7)]
    ids.reverse()
    assert pages(ledger, 3) == [ids[:3], ids[3:6], ids[6:]]
    assert pages(ledger, 7) == [ids]
    assert pages(ledger, 2, function="f.1") == [ids[1:4:2], ids[5::2]]
    claimed(ledger, ids[2])
    assert pages(ledger, 5, state=State.RUNNING) == [[ids[2]]]
    assert pages(ledger, 5, state=State.QUEUED, function="f.0") == [[ids[0], ids[4], ids[6]]]
    assert pages(ledger, 5, state=State.FAILED) == [[]]


def test_new_tasks_do_not_shift_a_page(ledger: BlockingLedger) -> None:
    ids = [accepted(ledger) for _ in range(4)]
    first, cursor = ledger.read_now(lambda conn: tasks.page(conn, limit=2))
    accepted(ledger)
    second, _ = ledger.read_now(lambda conn: tasks.page(conn, limit=2, cursor=cursor))
    assert [task.id for task in first + second] == ids[::-1]


@pytest.mark.parametrize("cursor", ["", "x", "z" * 26, "' OR 1=1 --", "a" * 27])
def test_a_cursor_that_no_page_gave_is_refused(ledger: BlockingLedger, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        ledger.read_now(lambda conn: tasks.page(conn, limit=2, cursor=cursor))
