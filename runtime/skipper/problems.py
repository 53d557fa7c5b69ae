"""Every problem that callers are told of (RFC 9457), and the HTTP status of each, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from skipper.task import Outcome


@dataclass(frozen=True, kw_only=True)
class ProblemKind:
    """One kind of problem."""

    status: int
    slug: str
    title: str


INVALID_INPUT = ProblemKind(
    status=422, slug="invalid-input", title="The input does not match the function's schema"
)
MALFORMED = ProblemKind(status=400, slug="malformed-body", title="The body is not JSON")
BAD_REQUEST = ProblemKind(status=400, slug="bad-request", title="The request cannot be understood")
UNAUTHORISED = ProblemKind(status=401, slug="unauthorised", title="An API key is needed")
FORBIDDEN = ProblemKind(status=403, slug="forbidden", title="Requests from other sites are refused")
NOT_FOUND = ProblemKind(status=404, slug="not-found", title="There is no such thing")
UNKNOWN_FUNCTION = ProblemKind(
    status=404, slug="unknown-function", title="There is no such function"
)
METHOD = ProblemKind(status=405, slug="method-not-allowed", title="The method is not allowed here")
CONFLICT = ProblemKind(status=409, slug="conflict", title="The task has already ended")
GONE = ProblemKind(status=410, slug="gone", title="It has expired")
TOO_LARGE = ProblemKind(status=413, slug="body-too-large", title="The body is too large")
MEDIA = ProblemKind(status=415, slug="unsupported-media-type", title="Bodies are application/json")
MISDIRECTED = ProblemKind(status=421, slug="unknown-host", title="This host name is not served")
KEY_REUSED = ProblemKind(
    status=422, slug="idempotency-key-reused", title="The key was used for another request"
)
FUNCTION_ERROR = ProblemKind(
    status=500, slug="function-error", title="The function raised an exception"
)
INTERNAL = ProblemKind(status=500, slug="internal-error", title="Skipper itself failed")
INSTANCE_DIED = ProblemKind(
    status=502, slug="instance-died", title="The process that ran the call died"
)
BROKEN = ProblemKind(status=503, slug="function-broken", title="The function's file does not load")
QUEUE_FULL = ProblemKind(status=503, slug="queue-full", title="Too many calls are waiting")
UNAVAILABLE = ProblemKind(
    status=503, slug="unavailable", title="The function cannot be served at the moment"
)
DEADLINE = ProblemKind(status=504, slug="deadline-passed", title="The deadline passed")
TOO_DEEP = ProblemKind(
    status=508, slug="calls-too-deep", title="Functions call each other too deep"
)
CANCELLED = ProblemKind(status=409, slug="cancelled", title="The run was cancelled")

OF_OUTCOME: dict[int, ProblemKind] = {
    Outcome.INVALID: INVALID_INPUT,
    Outcome.MALFORMED: MALFORMED,
    Outcome.FAILED: FUNCTION_ERROR,
    Outcome.DIED: INSTANCE_DIED,
    Outcome.TIMED_OUT: DEADLINE,
    Outcome.CANCELLED: CANCELLED,
    Outcome.NOT_FOUND: UNKNOWN_FUNCTION,
    Outcome.BROKEN: BROKEN,
    Outcome.BUSY: QUEUE_FULL,
    Outcome.UNAVAILABLE: UNAVAILABLE,
    Outcome.TOO_DEEP: TOO_DEEP,
}


def plain(status: int) -> ProblemKind:
    """A status that says all there is to say, in its own words."""
    phrase = HTTPStatus(status).phrase
    return ProblemKind(status=status, slug=phrase.lower().replace(" ", "-"), title=phrase)


def document(kind: ProblemKind, detail: str, members: dict[str, Any]) -> dict[str, Any]:
    """The problem document."""
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    } | members


def of_outcome(
    outcome: int, told: dict[str, Any], *, with_traceback: bool
) -> tuple[ProblemKind, str, dict[str, Any]]:
    """Kind, detail and further members of the problem that an outcome stands for."""
    members = dict(told)
    detail = str(members.pop("detail", ""))
    if not with_traceback:
        members.pop("traceback", None)
    return OF_OUTCOME[outcome], detail, members


def task_error(error: dict[str, Any], *, with_traceback: bool) -> dict[str, Any]:
    """The problem document of an ended task's error, as its ``error`` member."""
    told = dict(error)
    outcome = Outcome[str(told.pop("outcome", "failed")).upper()]
    return document(*of_outcome(outcome, told, with_traceback=with_traceback))
