"""How many tasks may wait and how much they may keep, on both databases."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from skipper.ledger import retention, tasks, usage
from skipper.ledger.admission import Admission
from skipper.ledger.records import Accepted, NewTask, Refusal, TaskBounds
from skipper.task import State, Task
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    accepted,
    claimed,
    empty_place,
    finished,
    ledger,
    module_ledger,
    new_task,
    place,
    task_in,
)

__all__ = ["empty_place", "ledger", "module_ledger", "place"]

PLENTY = 1 << 40
WAITING = 3


class AccessPolicy:
    """An admission to a ledger, whose clock stands still until it is set."""

    def __init__(self, ledger: BlockingLedger, waiting: int = WAITING, stored: int = PLENTY):
        self.now = 0.0
        self.ledger = ledger
        bounds = TaskBounds(waiting=waiting, stored=stored)
        self.admission = Admission(bounds, clock=lambda: self.now)

    def ask(self, *news: NewTask) -> list[Accepted]:
        return self.ledger.write_now(lambda conn: self.admission.accept_all(conn, news))

    def refusals(self, *news: NewTask) -> list[Refusal | None]:
        return [each.refusal for each in self.ask(*news)]

    def retry(self, task_id: str) -> Task | Refusal | None:
        return self.ledger.write_now(
            lambda conn: self.admission.requeue(conn, task_id, time.time())
        )


@pytest.fixture
def policy(ledger: BlockingLedger) -> AccessPolicy:
    return AccessPolicy(ledger)


def ids(ledger: BlockingLedger) -> list[str]:
    found, _ = ledger.read_now(lambda conn: tasks.page(conn, limit=200))
    return [task.id for task in found]


def kept(ledger: BlockingLedger) -> int:
    return ledger.read_now(usage.read)


def many(number: int, **values: object) -> Sequence[NewTask]:
    return [new_task(**values) for _ in range(number)]


def test_no_more_tasks_of_a_function_wait_than_may(policy: AccessPolicy) -> None:
    assert policy.refusals(*many(WAITING + 2)) == [None] * WAITING + [Refusal.WAITING] * 2
    assert policy.refusals(*many(1), *many(1, function="another.one")) == [Refusal.WAITING, None]
    assert len(ids(policy.ledger)) == WAITING + 1


def test_those_that_come_together_count_one_by_one(policy: AccessPolicy) -> None:
    policy.ask(new_task())
    claimed(policy.ledger, accepted(policy.ledger))
    assert policy.refusals(*many(WAITING)) == [None] * (WAITING - 1) + [Refusal.WAITING]
    assert len(ids(policy.ledger)) == WAITING + 1


@pytest.mark.parametrize("state", [State.QUEUED, State.RETRYING])
def test_what_waits_for_whatever_reason_counts(policy: AccessPolicy, state: State) -> None:
    for _ in range(WAITING):
        task_in(policy.ledger, state)
    assert policy.refusals(new_task()) == [Refusal.WAITING]


def test_what_is_delayed_counts(policy: AccessPolicy) -> None:
    late = time.time() + 1000
    assert policy.refusals(*many(WAITING, available_at=late)) == [None] * WAITING
    assert policy.refusals(new_task()) == [Refusal.WAITING]


@pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED, State.CANCELLED])
def test_what_waits_no_longer_does_not_count(policy: AccessPolicy, state: State) -> None:
    for _ in range(WAITING):
        task_in(policy.ledger, state)
    assert policy.refusals(*many(WAITING)) == [None] * WAITING


def test_room_is_seen_as_soon_as_there_is_some(policy: AccessPolicy) -> None:
    first, *_ = policy.ask(*many(WAITING))
    assert policy.refusals(new_task()) == [Refusal.WAITING]
    claimed(policy.ledger, first.id)
    assert policy.refusals(new_task()) == [None]


def test_what_others_let_in_is_seen_before_long(policy: AccessPolicy) -> None:
    policy.ask(new_task())
    for _ in range(WAITING):
        accepted(policy.ledger)
    policy.now = 0.6
    assert policy.refusals(new_task()) == [Refusal.WAITING]


def test_what_was_let_in_is_tried_again_and_given_back_however_many_wait(
    policy: AccessPolicy,
) -> None:
    task_id = accepted(policy.ledger, max_attempts=2)
    claim = claimed(policy.ledger, task_id)
    policy.ask(*many(WAITING))
    now = time.time()
    assert finished(policy.ledger, claim, State.FAILED, retry_at=now) is State.RETRYING
    claimed(policy.ledger, task_id, now=now + 1)
    released = policy.ledger.write_now(
        lambda conn: tasks.release(conn, "host-1", [task_id], now, lost=True)
    )
    assert [each.state for each in released] == [State.QUEUED]


def test_an_ended_task_is_run_again_as_a_new_one_where_there_is_room(policy: AccessPolicy) -> None:
    ended = task_in(policy.ledger, State.SUCCEEDED)
    assert isinstance(policy.retry(ended), Task)
    policy.ask(*many(WAITING - 1))
    assert policy.retry(ended) is Refusal.WAITING
    assert policy.retry("0" * 26) is None


def test_a_known_key_is_answered_with_its_task_though_there_is_no_room(
    policy: AccessPolicy,
) -> None:
    keyed = new_task(idempotency_key="k", idempotency_hash="h")
    (first, *_) = policy.ask(keyed, *many(WAITING - 1))
    again = new_task(idempotency_key="k", idempotency_hash="h")
    other = new_task(idempotency_key="k", idempotency_hash="another")
    fresh = new_task(idempotency_key="fresh")
    same, different, refused = policy.ask(again, other, fresh)
    assert (same.id, same.matches, same.refusal) == (first.id, True, None)
    assert (different.id, different.matches) == (first.id, False)
    assert refused.refusal is Refusal.WAITING


def test_a_refusal_is_foreseen_before_anything_is_stored(policy: AccessPolicy) -> None:
    def foresee(size: int = 0, key: str | None = None, on_their_way: int = 0) -> Refusal | None:
        return policy.ledger.read_now(
            lambda conn: policy.admission.foresee(conn, "boston.train", size, key, on_their_way)
        )

    policy.ask(new_task(idempotency_key="k"))
    assert foresee(on_their_way=WAITING - 2) is None
    assert foresee(on_their_way=WAITING - 1) is Refusal.WAITING
    assert foresee(PLENTY) is Refusal.STORED
    assert foresee(PLENTY, key="k") is None


INLINE, LARGE = Value(inline=b"x" * 40), Value(ref="0" * 64, size=60)


def test_inputs_and_results_count_wherever_they_lie_until_they_are_forgotten(
    policy: AccessPolicy,
) -> None:
    (first, second) = policy.ask(new_task(input=INLINE), new_task(input=LARGE))
    assert kept(policy.ledger) == 100
    finished(policy.ledger, claimed(policy.ledger, first.id), result=Value(ref="1" * 64, size=1000))
    finished(policy.ledger, claimed(policy.ledger, second.id), result=Value(inline=b"y" * 5))
    assert kept(policy.ledger) == 1105
    again = policy.retry(second.id)
    assert isinstance(again, Task)
    assert kept(policy.ledger) == 1165
    for forgotten, left in ((first.id, 125), (second.id, 60)):
        policy.ledger.write_now(lambda conn, one=forgotten: retention.prune(conn, [one], 0.0))  # type: ignore[misc]  # binds the loop's value
        assert kept(policy.ledger) == left


def test_what_changes_nothing_counts_nothing(policy: AccessPolicy) -> None:
    keyed = {"idempotency_key": "k", "input": INLINE}
    (first,) = policy.ask(new_task(**keyed))
    policy.ask(new_task(**keyed))
    claim = claimed(policy.ledger, first.id)
    finished(policy.ledger, claim, result=INLINE)
    finished(policy.ledger, claim, result=INLINE)
    assert kept(policy.ledger) == 80


def test_no_more_is_stored_than_may_be(ledger: BlockingLedger) -> None:
    policy = AccessPolicy(ledger, stored=100)
    news = [new_task(input=INLINE), new_task(input=LARGE), new_task(input=Value(inline=b"x"))]
    assert policy.refusals(*news) == [None, None, Refusal.STORED]
    assert len(ids(ledger)) == 2


def test_a_result_is_stored_however_much_there_is(ledger: BlockingLedger) -> None:
    policy = AccessPolicy(ledger, stored=100)
    (first,) = policy.ask(new_task(input=INLINE))
    claim = claimed(ledger, first.id)
    assert finished(ledger, claim, result=Value(ref="1" * 64, size=1000)) is State.SUCCEEDED
    policy.now = 1.0
    assert policy.refusals(new_task()) == [Refusal.STORED]
