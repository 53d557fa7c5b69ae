"""What every ledger promises of checkpoints: whose they are, which are kept, and for how long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from skipper.ledger import checkpoints, parts, retention, tasks
from skipper.ledger.records import Checkpoint, CheckpointBounds, NewCheckpoint, NotKept
from skipper.task import State
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    accepted,
    claimed,
    finished,
    ledger,
    module_ledger,
    place,
    task_in,
)

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services
BOUNDS = CheckpointBounds(each=1, stored=1000)


def keep(
    ledger: BlockingLedger, task_id: str, bounds: CheckpointBounds = BOUNDS, **values: Any
) -> int | NotKept:
    usual = {"attempt": 1, "host": HOST, "format": "keras", "size": 10, "at": time.time()}
    digest = values.setdefault("digest", "d1")
    new = NewCheckpoint(**{**usual, "task_id": task_id, "refs": (digest, f"{digest}-w"), **values})
    return ledger.write_now(lambda conn: checkpoints.keep(conn, new, bounds))


def kept(ledger: BlockingLedger, task_id: str, attempt: int = 2) -> list[Checkpoint]:
    return ledger.read_now(lambda conn: checkpoints.kept(conn, task_id, attempt))


def used(ledger: BlockingLedger, *refs: str) -> set[str]:
    return set(refs) - ledger.read_now(lambda conn: retention.unused(conn, refs))


def settle(ledger: BlockingLedger, *, ended_before: float = 0.0) -> set[str]:
    """Drop what nobody needs and forget it; the blobs."""
    now = time.time()
    ledger.write_now(lambda conn: checkpoints.drop(conn, ended_before, now, 100))
    return ledger.write_now(lambda conn: checkpoints.forget(conn, now + 1, 100))


def test_the_last_of_a_task_is_kept_with_its_number_and_its_progress(
    ledger: BlockingLedger,
) -> None:
    task_id = task_in(ledger, State.RUNNING)
    assert keep(ledger, task_id) == 1
    assert keep(ledger, task_id, digest="d2", size=20, progress={"done": 3}, at=7.0) == 2
    newest = ledger.read_now(lambda conn: checkpoints.newest(conn, task_id))
    assert newest == Checkpoint(
        number=2, attempt=1, digest="d2", format="keras", size=20, at=7.0, progress={"done": 3}
    )
    assert kept(ledger, task_id) == [newest]


def test_as_many_as_are_wanted_are_kept_the_newest_first(ledger: BlockingLedger) -> None:
    task_id, three = task_in(ledger, State.RUNNING), CheckpointBounds(each=3, stored=1000)
    for number in range(1, 6):
        assert keep(ledger, task_id, three, digest=f"d{number}") == number
    assert [each.digest for each in kept(ledger, task_id)] == ["d5", "d4", "d3"]


def test_an_attempt_goes_on_from_those_before_it_alone(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    keep(ledger, task_id)
    assert kept(ledger, task_id, attempt=1) == []
    assert [each.number for each in kept(ledger, task_id, attempt=2)] == [1]


@pytest.mark.parametrize(
    "other", [{"attempt": 2}, {"host": "another"}, {"attempt": 0}], ids=["later", "host", "earlier"]
)
def test_only_the_attempt_that_has_the_task_records_one(
    ledger: BlockingLedger, other: dict[str, Any]
) -> None:
    task_id = task_in(ledger, State.RUNNING)
    assert keep(ledger, task_id, **other) is NotKept.TAKEN
    assert kept(ledger, task_id) == []
    assert not used(ledger, "d1", "d1-w")


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_a_task_that_does_not_run_records_none(ledger: BlockingLedger, state: State) -> None:
    task_id = task_in(ledger, state)
    assert keep(ledger, task_id) is NotKept.TAKEN


def test_a_host_that_was_given_up_records_none_and_the_next_attempt_goes_on(
    ledger: BlockingLedger,
) -> None:
    task_id = task_in(ledger, State.RUNNING)
    keep(ledger, task_id)
    ledger.write_now(lambda conn: tasks.release(conn, HOST, None, time.time(), lost=True))
    assert keep(ledger, task_id, digest="late") is NotKept.TAKEN
    claim = claimed(ledger, task_id, "next")
    assert [each.digest for each in kept(ledger, task_id, claim.attempt)] == ["d1"]
    assert keep(ledger, task_id, attempt=claim.attempt, host="next", digest="d2") == 2


def test_all_together_have_no_more_bytes_than_are_to_be_kept(ledger: BlockingLedger) -> None:
    one, two = task_in(ledger, State.RUNNING), task_in(ledger, State.RUNNING)
    assert keep(ledger, one, size=600) == 1
    assert keep(ledger, two, size=401) is NotKept.FULL
    assert not ledger.read_now(lambda conn: checkpoints.has_room(conn, two, 401, BOUNDS))
    assert ledger.read_now(lambda conn: checkpoints.has_room(conn, two, 400, BOUNDS))
    assert keep(ledger, two, size=400) == 1
    # What it takes the place of makes room for it.
    assert ledger.read_now(lambda conn: checkpoints.has_room(conn, one, 600, BOUNDS))
    assert keep(ledger, one, size=600, digest="d2") == 2
    assert keep(ledger, one, size=601, digest="d3") is NotKept.FULL
    assert [each.digest for each in kept(ledger, one)] == ["d2"]


def test_the_blobs_of_one_that_is_kept_are_needed_and_those_of_one_before_go(
    ledger: BlockingLedger,
) -> None:
    task_id = task_in(ledger, State.RUNNING)
    keep(ledger, task_id)
    assert used(ledger, "d1", "d1-w", "x") == {"d1", "d1-w"}
    keep(ledger, task_id, digest="d2")
    assert used(ledger, "d1", "d1-w") == {"d1", "d1-w"}  # for a moment
    assert settle(ledger) == {"d1", "d1-w"}
    assert used(ledger, "d1", "d1-w", "d2", "d2-w") == {"d2", "d2-w"}


def test_what_was_dropped_just_now_is_not_forgotten_yet(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    keep(ledger, task_id)
    keep(ledger, task_id, digest="d2", at=100.0)
    assert ledger.write_now(lambda conn: checkpoints.forget(conn, 99.0, 100)) == set()
    assert ledger.write_now(lambda conn: checkpoints.forget(conn, 101.0, 100)) == {"d1", "d1-w"}


def test_after_success_nothing_is_kept(ledger: BlockingLedger) -> None:
    claim = claimed(ledger, accepted(ledger))
    keep(ledger, claim.task.id)
    finished(ledger, claim)
    assert settle(ledger) == {"d1", "d1-w"}
    assert ledger.read_now(lambda conn: checkpoints.newest(conn, claim.task.id)) is None


@pytest.mark.parametrize("state", [State.FAILED, State.CRASHED, State.TIMED_OUT])
def test_after_a_failure_they_are_kept_for_a_while(ledger: BlockingLedger, state: State) -> None:
    claim = claimed(ledger, accepted(ledger))
    keep(ledger, claim.task.id)
    finished(ledger, claim, state)
    assert settle(ledger, ended_before=time.time() - 100) == set()
    assert len(kept(ledger, claim.task.id)) == 1
    assert settle(ledger, ended_before=time.time() + 100) == {"d1", "d1-w"}


@pytest.mark.parametrize("state", [State.RUNNING, State.RETRYING])
def test_while_a_task_may_be_tried_again_they_are_kept(
    ledger: BlockingLedger, state: State
) -> None:
    claim = claimed(ledger, accepted(ledger, max_attempts=2))
    keep(ledger, claim.task.id)
    if state is State.RETRYING:
        finished(ledger, claim, State.FAILED, retry_at=time.time() + 100)
    assert settle(ledger, ended_before=time.time() + 100) == set()


def test_a_copy_of_a_failed_task_goes_on_from_where_that_one_had_come_to(
    ledger: BlockingLedger,
) -> None:
    claim = claimed(ledger, accepted(ledger))
    keep(ledger, claim.task.id)
    keep(ledger, claim.task.id, digest="d2")
    finished(ledger, claim, State.CRASHED)
    copy = ledger.write_now(lambda conn: tasks.requeue(conn, claim.task.id, time.time()))
    assert copy is not None
    (found,) = kept(ledger, copy.id, attempt=1)
    assert (found.number, found.attempt, found.digest) == (2, 0, "d2")
    again = claimed(ledger, copy.id)
    assert keep(ledger, copy.id, digest="d3") == 3
    finished(ledger, again)
    # Those of the first are its own: they stay for as long as it says.
    assert settle(ledger) >= {"d1", "d3"}
    assert used(ledger, "d2", "d2-w", "d3") == {"d2", "d2-w"}


def test_a_copy_of_a_task_that_succeeded_begins_anew(ledger: BlockingLedger) -> None:
    claim = claimed(ledger, accepted(ledger))
    keep(ledger, claim.task.id)
    finished(ledger, claim)
    copy = ledger.write_now(lambda conn: tasks.requeue(conn, claim.task.id, time.time()))
    assert copy is not None
    assert kept(ledger, copy.id, attempt=1) == []


def test_a_task_that_is_pruned_takes_its_checkpoints_along(ledger: BlockingLedger) -> None:
    claim = claimed(ledger, accepted(ledger))
    keep(ledger, claim.task.id)
    finished(ledger, claim, State.FAILED)
    pruned = ledger.write_now(lambda conn: retention.prune(conn, [claim.task.id], time.time()))
    assert pruned.refs == ("d1", "d1-w")
    assert kept(ledger, claim.task.id) == []


def test_content_that_two_tasks_share_goes_with_the_last_of_them(ledger: BlockingLedger) -> None:
    one, two = claimed(ledger, accepted(ledger)), claimed(ledger, accepted(ledger))
    keep(ledger, one.task.id)
    keep(ledger, two.task.id)
    finished(ledger, one)
    settle(ledger)
    assert used(ledger, "d1", "d1-w") == {"d1", "d1-w"}
    finished(ledger, two)
    settle(ledger)
    assert used(ledger, "d1", "d1-w") == set()


def test_what_is_removed_by_name_leaves_the_rest_of_a_task(ledger: BlockingLedger) -> None:
    task_id = task_in(ledger, State.RUNNING)
    for name in ("body", "checkpoint/1"):
        ledger.write_now(lambda conn, name=name: parts.add_refs(conn, task_id, name, [name]))  # type: ignore[misc]  # binds the loop's value
    gone = ledger.write_now(lambda conn: parts.remove_named(conn, [(task_id, "checkpoint/1")]))
    assert gone == {"checkpoint/1"}
    assert used(ledger, "body", "checkpoint/1") == {"body"}
