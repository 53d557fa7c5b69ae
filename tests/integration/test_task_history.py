"""A task's changes of state, read off the ledger at any moment of any life."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from skipper.gateway.timeline import Change, changes
from skipper.ledger import tasks
from skipper.ledger.records import Ending
from skipper.task import State
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.integration.ledgers import HOST, accepted, ledger, module_ledger, place

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services


class Life:
    """A task, and everything that may happen to it."""

    def __init__(self, ledger: BlockingLedger) -> None:
        self._ledger = ledger
        self._id = accepted(ledger, max_attempts=4)
        self._now = time.time()

    def told(self) -> list[Change]:
        found = self._ledger.read_now(lambda conn: tasks.history(conn, self._id))
        assert found is not None
        return changes(*found)

    @property
    def state(self) -> State:
        task = self._ledger.read_now(lambda conn: tasks.get(conn, self._id))
        assert task is not None
        return task.state

    def happens(self, what: str) -> None:
        self._now += 0.5
        act: Callable[[], object] = getattr(self, what)
        act()

    def claim(self) -> None:
        self._ledger.write_now(
            lambda conn: tasks.claim(conn, [self._id], HOST, self._now + 10), durable=False
        )

    def _finish(self, ending: Ending) -> None:
        task = self._ledger.read_now(lambda conn: tasks.get(conn, self._id))
        assert task is not None
        attempt = task.attempt
        self._ledger.write_now(
            lambda conn: tasks.finish(conn, self._id, attempt, HOST, ending, self._now),
            durable=False,
        )

    def succeed(self) -> None:
        self._finish(Ending(state=State.SUCCEEDED, result=Value(inline=b"1")))

    def fail(self) -> None:
        error = {"detail": "boom", "outcome": "failed"}
        self._finish(Ending(state=State.FAILED, error=error, retry_at=self._now))

    def lose(self) -> None:
        self._release(lost=True)

    def release(self) -> None:
        self._release(lost=False)

    def _release(self, *, lost: bool) -> None:
        self._ledger.write_now(
            lambda conn: tasks.release(conn, HOST, [self._id], self._now, lost=lost), durable=False
        )

    def cancel(self) -> None:
        self._ledger.write_now(lambda conn: tasks.cancel(conn, self._id, self._now), durable=False)

    def due(self) -> None:
        self._ledger.write_now(lambda conn: tasks.due(conn, self._now, 10), durable=False)


def states(life: Life) -> list[tuple[str, int]]:
    return [(str(change.state), change.attempt) for change in life.told()]


LIVES = {
    "claim succeed": ["running 1", "succeeded 1"],
    "claim fail due claim succeed": ["running 1", "retrying 1", "running 2", "succeeded 2"],
    "claim fail cancel": ["running 1", "retrying 1", "cancelled 1"],
    "claim lose claim release claim succeed": [
        *("running 1", "queued 1", "running 2", "queued 2", "running 3", "succeeded 3")
    ],
    "claim lose cancel": ["running 1", "queued 1", "cancelled 1"],
    "claim cancel lose": ["running 1", "cancelled 1"],
    "claim cancel fail": ["running 1", "cancelled 1"],
    "cancel": ["cancelled 0"],
}


@pytest.mark.parametrize("what", LIVES)
def test_every_change_of_state_is_told(ledger: BlockingLedger, what: str) -> None:
    life = Life(ledger)
    for each in what.split():
        life.happens(each)
    told = [f"{state} {attempt}" for state, attempt in states(life)]
    assert told == ["queued 0", *LIVES[what]]


def test_why_an_attempt_was_followed_by_another_is_told(ledger: BlockingLedger) -> None:
    life = Life(ledger)
    for each in ("claim", "fail", "claim", "lose"):
        life.happens(each)
    _, _, retrying, _, queued = life.told()
    assert (retrying.outcome, (retrying.error or {})["detail"]) == ("failed", "boom")
    assert (queued.outcome, queued.error) == ("lost", None)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_told_once_is_told_so_for_ever(ledger: BlockingLedger, seed: int) -> None:
    """Each look begins with all that an earlier one gave: so a place in it stays right."""
    dice, life = random.Random(seed), Life(ledger)
    acts = ["claim", "claim", "claim", "fail", "lose", "release", "due", "cancel", "succeed"]
    weights = [6, 6, 6, 4, 4, 3, 3, 1, 1]
    seen = life.told()
    for _ in range(40):
        life.happens(dice.choices(acts, weights)[0])
        told = life.told()
        assert told[: len(seen)] == seen
        assert told[-1].state == life.state or (
            (told[-1].state, life.state) == (State.RETRYING, State.QUEUED)
        )
        seen = told
