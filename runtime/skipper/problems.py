"""Every kind of problem that callers are answered (RFC 9457), in one table.

Its HTTP status, how its document is called, and the error that it is for callers in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from skipper.errors import (
    CallError,
    CancelledError,
    ConflictError,
    DeadlineError,
    DeploymentError,
    FunctionError,
    InstanceDiedError,
    InvalidInputError,
    KeptOutError,
    NotFoundError,
    SkipperError,
    UnavailableError,
    UnfitError,
)


@dataclass(frozen=True, kw_only=True)
class ProblemKind:
    """One kind of problem. ``error`` is what clients, and functions that call others, raise."""

    status: int
    slug: str
    title: str
    error: type[SkipperError] = CallError


INVALID_INPUT = ProblemKind(
    status=422,
    slug="invalid-input",
    title="The input does not match the function's schema",
    error=InvalidInputError,
)
MALFORMED = ProblemKind(
    status=400, slug="malformed-body", title="The body is not JSON", error=InvalidInputError
)
BAD_REQUEST = ProblemKind(
    status=400,
    slug="bad-request",
    title="The request cannot be understood",
    error=InvalidInputError,
)
UNAUTHORISED = ProblemKind(status=401, slug="unauthorised", title="An API key is needed")
FORBIDDEN = ProblemKind(
    status=403, slug="forbidden", title="Requests from pages of other origins are refused"
)
OTHER_USER = ProblemKind(
    status=403, slug="other-user", title="Another account of this machine is served here"
)
NOT_FOUND = ProblemKind(
    status=404, slug="not-found", title="There is no such thing", error=NotFoundError
)
UNKNOWN_FUNCTION = ProblemKind(
    status=404,
    slug="unknown-function",
    title="There is no such function",
    error=NotFoundError,
)
UNKNOWN_MODEL = ProblemKind(
    status=404, slug="unknown-model", title="There is no such model", error=NotFoundError
)
METHOD = ProblemKind(status=405, slug="method-not-allowed", title="The method is not allowed here")
LATE = ProblemKind(
    status=408,
    slug="request-timeout",
    title="The request did not come in time",
    error=InvalidInputError,
)
CONFLICT = ProblemKind(status=409, slug="conflict", title="The task has already ended")
CHANGED = ProblemKind(
    status=409,
    slug="changed-meanwhile",
    title="Somebody else has changed it meanwhile",
    error=ConflictError,
)
GONE = ProblemKind(status=410, slug="gone", title="It has expired", error=NotFoundError)
IF_MATCH = ProblemKind(
    status=412,
    slug="revision-needed",
    title="The request does not say which revision it changes",
    error=InvalidInputError,
)
TOO_LARGE = ProblemKind(
    status=413, slug="body-too-large", title="The body is too large", error=InvalidInputError
)
MEDIA = ProblemKind(
    status=415,
    slug="unsupported-media-type",
    title="The function takes no body of this type",
    error=InvalidInputError,
)
NOT_ACCEPTABLE = ProblemKind(
    status=406,
    slug="not-acceptable",
    title="The value cannot be had in a type that is accepted",
    error=InvalidInputError,
)
RANGE = ProblemKind(
    status=416,
    slug="range-not-satisfiable",
    title="There are no such bytes",
    error=InvalidInputError,
)
MISDIRECTED = ProblemKind(status=421, slug="unknown-host", title="This host name is not served")
KEY_REUSED = ProblemKind(
    status=422,
    slug="idempotency-key-reused",
    title="The key was used for another request",
    error=InvalidInputError,
)
UNFIT = ProblemKind(
    status=422, slug="unfit-version", title="The version cannot serve", error=UnfitError
)
KEPT_OUT = ProblemKind(
    status=422, slug="kept-out", title="Its gate keeps the version out", error=KeptOutError
)
NO_VERSION = ProblemKind(
    status=422, slug="no-such-version", title="There is no such version", error=NotFoundError
)
DEPLOYMENT = ProblemKind(
    status=422,
    slug="invalid-deployment",
    title="Versions cannot serve in this way",
    error=DeploymentError,
)
HEAD_TOO_LARGE = ProblemKind(
    status=431,
    slug="head-too-large",
    title="The request's head is too large",
    error=InvalidInputError,
)
FUNCTION_ERROR = ProblemKind(
    status=500,
    slug="function-error",
    title="The function raised an exception",
    error=FunctionError,
)
NO_ROOM = ProblemKind(
    status=507, slug="no-room", title="There is no room to store it", error=UnavailableError
)
INTERNAL = ProblemKind(status=500, slug="internal-error", title="Skipper itself failed")
INSTANCE_DIED = ProblemKind(
    status=502,
    slug="instance-died",
    title="The process that ran the call died",
    error=InstanceDiedError,
)
BROKEN = ProblemKind(
    status=503,
    slug="function-broken",
    title="The function's file does not load",
    error=UnavailableError,
)
QUEUE_FULL = ProblemKind(
    status=503, slug="queue-full", title="Too many calls are waiting", error=UnavailableError
)
UNAVAILABLE = ProblemKind(
    status=503,
    slug="unavailable",
    title="The function cannot be served at the moment",
    error=UnavailableError,
)
DEADLINE = ProblemKind(
    status=504, slug="deadline-passed", title="The deadline passed", error=DeadlineError
)
TOO_DEEP = ProblemKind(
    status=508,
    slug="calls-too-deep",
    title="Functions call each other too deep",
    error=UnavailableError,
)
CANCELLED = ProblemKind(
    status=409, slug="cancelled", title="The run was cancelled", error=CancelledError
)

KINDS = tuple(kind for kind in list(vars().values()) if isinstance(kind, ProblemKind))
"""All of them. Where several have one status, the first is the one that the status alone means."""


def plain(status: int) -> ProblemKind:
    """The kind of a status that has none of its own, in the status's own words."""
    phrase = HTTPStatus(status).phrase
    return ProblemKind(status=status, slug=phrase.lower().replace(" ", "-"), title=phrase)


def document(kind: ProblemKind, detail: str, members: dict[str, Any]) -> dict[str, Any]:
    """The problem document; ``detail`` is about this occurrence, ``members`` are added."""
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    } | members
