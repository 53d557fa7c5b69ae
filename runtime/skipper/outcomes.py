"""How a call ended and all that follows from it, in one table: ``MEANINGS``.

Whoever makes something of an outcome looks it up here: the state of a task, whether it is tried
again, the problem that a caller is answered and the error that it is in Python, the name in stored
errors and in metrics. The command's exit code follows from the error (``skipper.exits``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from skipper import problems
from skipper.problems import ProblemKind
from skipper.task import State


class Outcome(IntEnum):
    """How one call ended; one byte on the wire. Everything but OK comes with a problem."""

    OK = 0
    INVALID = 1
    """The input does not match the schema."""
    FAILED = 2
    """The function raised."""
    DIED = 3
    """The instance's process died during the call."""
    TIMED_OUT = 4
    CANCELLED = 5
    NOT_FOUND = 6
    BROKEN = 7
    """The function's file does not load and there is no good version."""
    BUSY = 8
    """The queue is full."""
    UNAVAILABLE = 9
    """The function cannot be served now: no model yet, still loading, pool not reachable."""
    TOO_DEEP = 10
    """Functions called functions beyond the limit."""
    MALFORMED = 11
    """The body is not JSON."""
    NO_MODEL = 12
    """There is no model of the name that the call asks for."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What follows from one outcome."""

    name: str
    """In stored errors and in metrics. It never changes: ledgers hold it."""
    state: State
    """Where a task ends whose last attempt ended so."""
    also: tuple[State, ...] = ()
    """Other ends of tasks that callers are to take for this outcome."""
    kind: ProblemKind | None = None
    """The problem that the caller is answered. None where it is answered a value."""
    is_retried: bool = False
    """Whether what has attempts left is tried again, where its error does not say otherwise."""
    is_logged: bool = False
    """Whether the host logs a direct call that ended so, since the function brought it about."""


# The first row with a state is the outcome that an ended task stands for whose error names none.
MEANINGS: Mapping[int, Meaning] = {
    Outcome.OK: Meaning(name="ok", state=State.SUCCEEDED),
    Outcome.FAILED: Meaning(
        name="failed",
        state=State.FAILED,
        kind=problems.FUNCTION_ERROR,
        is_retried=True,
        is_logged=True,
    ),
    Outcome.DIED: Meaning(
        name="died",
        state=State.CRASHED,
        kind=problems.INSTANCE_DIED,
        is_retried=True,
        is_logged=True,
    ),
    Outcome.TIMED_OUT: Meaning(
        name="timed_out",
        state=State.TIMED_OUT,
        also=(State.EXPIRED,),
        kind=problems.DEADLINE,
        is_retried=True,
        is_logged=True,
    ),
    Outcome.CANCELLED: Meaning(name="cancelled", state=State.CANCELLED, kind=problems.CANCELLED),
    Outcome.INVALID: Meaning(name="invalid", state=State.FAILED, kind=problems.INVALID_INPUT),
    Outcome.MALFORMED: Meaning(name="malformed", state=State.FAILED, kind=problems.MALFORMED),
    Outcome.NOT_FOUND: Meaning(
        name="not_found", state=State.FAILED, kind=problems.UNKNOWN_FUNCTION
    ),
    Outcome.BROKEN: Meaning(name="broken", state=State.FAILED, kind=problems.BROKEN),
    Outcome.BUSY: Meaning(name="busy", state=State.FAILED, kind=problems.QUEUE_FULL),
    Outcome.UNAVAILABLE: Meaning(name="unavailable", state=State.FAILED, kind=problems.UNAVAILABLE),
    Outcome.NO_MODEL: Meaning(
        name="no_model", state=State.FAILED, kind=problems.UNKNOWN_MODEL, is_retried=True
    ),
    Outcome.TOO_DEEP: Meaning(name="too_deep", state=State.FAILED, kind=problems.TOO_DEEP),
}

RETRIED = frozenset(int(outcome) for outcome, meaning in MEANINGS.items() if meaning.is_retried)
LOGGED = frozenset(int(outcome) for outcome, meaning in MEANINGS.items() if meaning.is_logged)
"""As plain numbers, because they are looked up for each call."""
FAILURE = "failure"
"""The ``event`` of a log record about a run of a function that failed."""
_BY_NAME = {meaning.name: Outcome(outcome) for outcome, meaning in MEANINGS.items()}
_BY_STATE = {
    state: Outcome(outcome)
    for outcome, meaning in reversed([*MEANINGS.items()])
    for state in (meaning.state, *meaning.also)
}


def of_state(state: State) -> Outcome:
    """The outcome that a task's end stands for. KeyError for a state that is no end."""
    return _BY_STATE[state]


def kind_of(outcome: int) -> ProblemKind:
    """The kind of problem that an outcome stands for, which is not OK."""
    kind = MEANINGS[outcome].kind
    assert kind is not None, "a value is no problem"
    return kind


def problem_of(
    outcome: int, members: Mapping[str, Any], *, with_traceback: bool
) -> tuple[ProblemKind, str, dict[str, Any]]:
    """Kind, detail and further members of the problem that a reply stands for.

    ``members`` are those of the reply's body; without ``with_traceback`` a traceback is left out.
    """
    rest = dict(members)
    detail = str(rest.pop("detail", ""))
    if not with_traceback:
        rest.pop("traceback", None)
    return kind_of(outcome), detail, rest


# --- as the ledger stores it ---


def stored_error(outcome: int, members: Mapping[str, Any]) -> dict[str, Any]:
    """The error of a task or an attempt as the ledger stores it: a problem's members, and why."""
    return {**members, "outcome": MEANINGS[outcome].name}


def parse_error(
    error: Mapping[str, Any], otherwise: Outcome = Outcome.FAILED
) -> tuple[Outcome, dict[str, Any]]:
    """The outcome and the members of a stored error.

    ``otherwise`` where it names no outcome, or one that this version does not know: a later one may
    have written to the ledger before.
    """
    members = dict(error)
    return _BY_NAME.get(str(members.pop("outcome", "")), otherwise), members


def error_document(error: Mapping[str, Any], *, with_traceback: bool) -> dict[str, Any]:
    """The problem document of a stored error: the ``error`` member of a task or an attempt."""
    outcome, members = parse_error(error)
    return problems.document(*problem_of(outcome, members, with_traceback=with_traceback))
