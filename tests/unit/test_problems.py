from __future__ import annotations

import pytest

from skipper import errors, problems
from skipper.problems import KINDS, ProblemKind

TABLE = [
    (400, "malformed-body", "The body is not JSON", errors.InvalidInputError),
    (400, "bad-request", "The request cannot be understood", errors.InvalidInputError),
    (401, "unauthorised", "An API key is needed", errors.CallError),
    (403, "forbidden", "Requests from pages of other origins are refused", errors.CallError),
    (403, "other-user", "Another account of this machine is served here", errors.CallError),
    (404, "not-found", "There is no such thing", errors.NotFoundError),
    (404, "unknown-function", "There is no such function", errors.NotFoundError),
    (405, "method-not-allowed", "The method is not allowed here", errors.CallError),
    (408, "request-timeout", "The request did not come in time", errors.InvalidInputError),
    (409, "conflict", "The task has already ended", errors.CallError),
    (409, "cancelled", "The run was cancelled", errors.CancelledError),
    (409, "changed-meanwhile", "Somebody else has changed it meanwhile", errors.ConflictError),
    (
        412,
        "revision-needed",
        "The request does not say which revision it changes",
        errors.InvalidInputError,
    ),
    (422, "unfit-version", "The version cannot serve", errors.UnfitError),
    (422, "kept-out", "Its gate keeps the version out", errors.KeptOutError),
    (422, "no-such-version", "There is no such version", errors.NotFoundError),
    (422, "invalid-deployment", "Versions cannot serve in this way", errors.DeploymentError),
    (404, "unknown-model", "There is no such model", errors.NotFoundError),
    (410, "gone", "It has expired", errors.NotFoundError),
    (413, "body-too-large", "The body is too large", errors.InvalidInputError),
    (
        406,
        "not-acceptable",
        "The value cannot be had in a type that is accepted",
        errors.InvalidInputError,
    ),
    (
        415,
        "unsupported-media-type",
        "The function takes no body of this type",
        errors.InvalidInputError,
    ),
    (416, "range-not-satisfiable", "There are no such bytes", errors.InvalidInputError),
    (507, "no-room", "There is no room to store it", errors.UnavailableError),
    (421, "unknown-host", "This host name is not served", errors.CallError),
    (
        422,
        "invalid-input",
        "The input does not match the function's schema",
        errors.InvalidInputError,
    ),
    (
        422,
        "idempotency-key-reused",
        "The key was used for another request",
        errors.InvalidInputError,
    ),
    (431, "head-too-large", "The request's head is too large", errors.InvalidInputError),
    (500, "function-error", "The function raised an exception", errors.FunctionError),
    (500, "internal-error", "Skipper itself failed", errors.CallError),
    (502, "instance-died", "The process that ran the call died", errors.InstanceDiedError),
    (503, "function-broken", "The function's file does not load", errors.UnavailableError),
    (503, "queue-full", "Too many calls are waiting", errors.UnavailableError),
    (503, "unavailable", "The function cannot be served at the moment", errors.UnavailableError),
    (504, "deadline-passed", "The deadline passed", errors.DeadlineError),
    (508, "calls-too-deep", "Functions call each other too deep", errors.UnavailableError),
]
"""What callers were promised, written out."""


def test_every_kind_is_what_callers_were_promised() -> None:
    found = [(kind.status, kind.slug, kind.title, kind.error) for kind in KINDS]
    assert sorted(found, key=str) == sorted(TABLE, key=str)
    declared = [kind for kind in vars(problems).values() if isinstance(kind, ProblemKind)]
    assert list(KINDS) == declared


def test_no_two_kinds_of_problem_are_called_the_same() -> None:
    assert len({kind.slug for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(
    ("status", "slug", "title"),
    [
        (401, "unauthorized", "Unauthorized"),
        (416, None, None),
        (501, "not-implemented", "Not Implemented"),
    ],
)
def test_a_status_without_a_kind_of_its_own_is_a_problem_too(
    status: int, slug: str | None, title: str | None
) -> None:
    document = problems.document(problems.plain(status), "so it is", {"path": "/x"})
    assert (document["status"], document["detail"], document["path"]) == (status, "so it is", "/x")
    assert document["type"].startswith("/problems/")
    assert slug is None or document["type"] == f"/problems/{slug}"
    assert document["title"] if title is None else document["title"] == title
