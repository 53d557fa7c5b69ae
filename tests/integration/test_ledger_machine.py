"""Random histories of tasks, held against a model of what the ledger promises."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from skipper.ledger import tasks
from skipper.ledger.records import Claim, Ending
from skipper.task import State
from tests.blocking import BlockingLedger
from tests.integration.ledgers import ledger, module_ledger, new_task, place

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services
HOSTS = st.sampled_from(["a", "b"])
LOSSES = st.booleans()
STATES = st.sampled_from([State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CRASHED])


@dataclass
class Expected:
    """What the model knows of a task."""

    max_attempts: int
    state: State = State.QUEUED
    attempt: int = 0
    spent: int = 0
    host: str | None = None
    is_unwanted: bool = False
    outcomes: list[str] = field(default_factory=list)


class Histories(RuleBasedStateMachine):
    """Two hosts, a gateway and a scheduler, in any order. One tick of the clock per step."""

    ledger: BlockingLedger
    ids = Bundle("ids")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Expected] = {}
        self.now = time.time()

    def write(self, operation: Any) -> Any:
        self.now += 1
        return self.ledger.write_now(operation, durable=False)

    @rule(target=ids, max_attempts=st.integers(1, 3))
    def accept(self, max_attempts: int) -> str:
        new = new_task(max_attempts=max_attempts)
        self.write(lambda conn: tasks.accept(conn, new))
        self.model[new.id] = Expected(max_attempts)
        return new.id

    @rule(target=claims, task_id=ids, host=HOSTS)
    def claim(self, task_id: str, host: str) -> Claim | None:
        found = self.write(lambda conn: tasks.claim(conn, [task_id], host, self.now))
        task = self.model[task_id]
        assert bool(found) == (task.state in (State.QUEUED, State.RETRYING))
        if not found:
            return None
        task.state, task.host, task.attempt = State.RUNNING, host, task.attempt + 1
        (claim,) = found
        assert isinstance(claim, Claim)
        assert (claim.attempt, claim.spent) == (task.attempt, task.spent)
        return claim

    @rule(claim=claims, state=STATES, retry=st.booleans())
    def finish(self, claim: Claim | None, state: State, retry: bool) -> None:
        if claim is None:
            return
        ending = Ending(state=state, retry_at=self.now if retry else None)
        found = self.write(
            lambda conn: tasks.finish(
                conn, claim.task.id, claim.attempt, str(claim.task.host), ending, self.now
            )
        )
        assert found is self._finished(self.model[claim.task.id], claim, ending)

    def _finished(self, task: Expected, claim: Claim, ending: Ending) -> State | None:
        if (task.state, task.attempt) != (State.RUNNING, claim.attempt):
            return None
        task.spent += 1
        task.state, outcome = ending.state, ending.state
        if ending.retry_at is not None and task.is_unwanted:
            task.state = outcome = State.CANCELLED
        elif ending.retry_at is not None and task.spent < task.max_attempts:
            task.state = State.RETRYING
        task.outcomes.append(outcome.value)
        return task.state

    @rule(host=HOSTS, lost=LOSSES)
    def release(self, host: str, lost: bool) -> None:
        found = self.write(lambda conn: tasks.release(conn, host, None, self.now, lost=lost))
        held = {
            task_id: task
            for task_id, task in self.model.items()
            if task.state is State.RUNNING and task.host == host
        }
        for task in held.values():
            task.state = State.CANCELLED if task.is_unwanted else State.QUEUED
            task.outcomes.append("lost" if lost else "released")
        assert {each.id: each.state for each in found} == {
            task_id: task.state for task_id, task in held.items()
        }

    @rule(task_id=ids)
    def cancel(self, task_id: str) -> None:
        found = self.write(lambda conn: tasks.cancel(conn, task_id, self.now))
        task = self.model[task_id]
        assert found.already_ended == task.state.is_terminal
        if task.state is State.RUNNING:
            task.is_unwanted = True
        elif not task.state.is_terminal:
            task.state = State.CANCELLED
        assert found.state is task.state

    @rule()
    def due(self) -> None:
        found = self.write(lambda conn: tasks.due(conn, self.now, 100))
        retrying = [key for key, task in self.model.items() if task.state is State.RETRYING]
        assert sorted(task_id for task_id, _ in found) == sorted(retrying)
        for task_id in retrying:
            self.model[task_id].state = State.QUEUED

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        for task_id, expected in self.model.items():
            task = self.ledger.read_now(lambda conn, key=task_id: tasks.get(conn, key))  # type: ignore[misc]  # binds the loop's value
            assert task is not None
            assert (task.state, task.attempt) == (expected.state, expected.attempt)

    def teardown(self) -> None:
        for task_id, expected in self.model.items():
            found = self.ledger.read_now(lambda conn, key=task_id: tasks.attempts(conn, key))  # type: ignore[misc]  # binds the loop's value
            is_running = expected.state is State.RUNNING
            outcomes = [*expected.outcomes, *([None] if is_running else [])]
            assert [attempt.outcome for attempt in found] == outcomes
            assert [attempt.number for attempt in found] == list(range(1, expected.attempt + 1))
        waiting = self.ledger.read_now(lambda conn: tasks.waiting(conn, "cpu", self.now, 1000))
        assert {each.id for each in waiting} == {
            task_id
            for task_id, task in self.model.items()
            if task.state in (State.QUEUED, State.RETRYING)
        }
        self.ledger.write_now(
            lambda conn: [tasks.release(conn, host, None, 1.0, lost=False) for host in "ab"],
            durable=False,
        )
        for task_id in self.model:
            self.ledger.write_now(
                lambda conn, key=task_id: tasks.cancel(conn, key, 1.0),  # type: ignore[misc]  # binds the loop's value
                durable=False,
            )


def test_every_history_is_as_the_model_says(ledger: BlockingLedger) -> None:
    machine = type("HistoriesHere", (Histories,), {"ledger": ledger})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
