"""One table of how calls end, held against what callers, ledgers and scripts were promised."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from skipper import errors, outcomes, problems
from skipper.exits import exit_code
from skipper.outcomes import MEANINGS, Outcome
from skipper.task import TERMINAL, State


class Promise(NamedTuple):
    """What one outcome is to those outside. Written out: nothing here follows from the table."""

    number: int
    name: str
    state: str
    status: int
    slug: str
    error: type[errors.SkipperError]
    exit: int
    is_retried: bool = False
    is_logged: bool = False


PROMISES = (
    Promise(1, "invalid", "failed", 422, "invalid-input", errors.InvalidInputError, 2),
    Promise(2, "failed", "failed", 500, "function-error", errors.FunctionError, 1, True, True),
    Promise(3, "died", "crashed", 502, "instance-died", errors.InstanceDiedError, 1, True, True),
    Promise(
        4, "timed_out", "timed_out", 504, "deadline-passed", errors.DeadlineError, 6, True, True
    ),
    Promise(5, "cancelled", "cancelled", 409, "cancelled", errors.CancelledError, 1),
    Promise(6, "not_found", "failed", 404, "unknown-function", errors.NotFoundError, 5),
    Promise(7, "broken", "failed", 503, "function-broken", errors.UnavailableError, 4),
    Promise(8, "busy", "failed", 503, "queue-full", errors.UnavailableError, 4),
    Promise(9, "unavailable", "failed", 503, "unavailable", errors.UnavailableError, 4),
    Promise(10, "too_deep", "failed", 508, "calls-too-deep", errors.UnavailableError, 4),
    Promise(12, "no_model", "failed", 404, "unknown-model", errors.NotFoundError, 5, True),
    Promise(11, "malformed", "failed", 400, "malformed-body", errors.InvalidInputError, 2),
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_an_outcome_means_what_was_promised(promise: Promise) -> None:
    meaning = MEANINGS[promise.number]
    kind = outcomes.kind_of(promise.number)
    assert promise == Promise(
        Outcome[promise.name.upper()],
        meaning.name,
        meaning.state,
        kind.status,
        kind.slug,
        kind.error,
        exit_code(kind.error("why")),
        meaning.is_retried,
        promise.number in outcomes.LOGGED,
    )


def test_every_outcome_has_one_meaning_and_the_value_is_no_problem() -> None:
    assert set(MEANINGS) == set(Outcome)
    assert {promise.number for promise in PROMISES} == set(Outcome) - {Outcome.OK}
    ok = MEANINGS[Outcome.OK]
    assert (ok.name, ok.state, ok.kind, ok.is_retried) == ("ok", State.SUCCEEDED, None, False)
    with pytest.raises(AssertionError, match="a value is no problem"):
        outcomes.kind_of(Outcome.OK)


def test_what_is_looked_up_for_each_call_are_plain_numbers() -> None:
    assert {type(number) for number in outcomes.LOGGED} == {int}


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (State.SUCCEEDED, Outcome.OK),
        (State.FAILED, Outcome.FAILED),
        (State.TIMED_OUT, Outcome.TIMED_OUT),
        (State.CANCELLED, Outcome.CANCELLED),
        (State.CRASHED, Outcome.DIED),
        (State.EXPIRED, Outcome.TIMED_OUT),
    ],
)
def test_every_end_of_a_task_stands_for_an_outcome(state: State, outcome: Outcome) -> None:
    assert outcomes.of_state(state) is outcome


def test_what_has_not_ended_stands_for_none() -> None:
    for state in set(State) - set(TERMINAL):
        with pytest.raises(KeyError):
            outcomes.of_state(state)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_stored_error_is_read_as_it_was_written(outcome: Outcome) -> None:
    members = {"detail": "ValueError: no", "retryable": False}
    stored = json.loads(json.dumps(outcomes.stored_error(outcome, members)))
    assert stored == members | {"outcome": MEANINGS[outcome].name}
    assert outcomes.parse_error(stored) == (outcome, members)


@pytest.mark.parametrize("error", [{"detail": "d"}, {"detail": "d", "outcome": "mislaid"}])
def test_an_error_of_an_unknown_outcome_is_read_as_the_one_that_is_given(
    error: dict[str, Any],
) -> None:
    given = dict(error)
    assert outcomes.parse_error(error) == (Outcome.FAILED, {"detail": "d"})
    assert outcomes.parse_error(error, Outcome.DIED)[0] is Outcome.DIED
    assert error == given


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"detail": "d", "outcome": "timed_out"}, 504),
        ({"detail": "d", "outcome": "died"}, 502),
        ({"detail": "d", "outcome": "mislaid"}, 500),
        ({"detail": "d"}, 500),
    ],
)
def test_the_error_of_an_ended_task_is_the_problem_of_its_outcome(
    error: dict[str, Any], status: int
) -> None:
    document = outcomes.error_document(error, with_traceback=False)
    assert (document["status"], document["detail"]) == (status, "d")
    assert "outcome" not in document


@pytest.mark.parametrize("with_traceback", [True, False])
def test_a_traceback_is_shown_to_those_who_may_see_it(with_traceback: bool) -> None:
    error = {"detail": "d", "outcome": "failed", "traceback": "File secret.py"}
    document = outcomes.error_document(error, with_traceback=with_traceback)
    assert ("traceback" in document) is with_traceback


def test_a_problem_has_the_members_of_its_reply() -> None:
    found = outcomes.problem_of(Outcome.BUSY, {"detail": "d", "waiting": 3}, with_traceback=False)
    assert found == (problems.QUEUE_FULL, "d", {"waiting": 3})
