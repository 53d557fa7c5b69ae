"""Answers over HTTP: problems, and what names the code and the models that served a reply."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skipper import problems
from skipper.errors import FullError, NotFoundError, UnavailableError
from skipper.gateway.answers import (
    Json,
    failures_answered,
    json_part,
    kept_response,
    problem_response,
    served_headers,
    storing,
)
from skipper.gateway.http.asgi import AsgiView, GoneError
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.problems import Problem
from skipper.problems import KINDS, ProblemKind
from skipper.values.spool import Spool
from tests.unit.gateway.http.line import Answering, Caller
from tests.unit.gateway.played import settle


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_a_problem_is_answered_with_its_status_and_its_document(kind: ProblemKind) -> None:
    problem = Problem(kind, "more of it", {"function": "a.b"})
    response = problem_response(problem)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == kind.status
    assert json.loads(bytes(response.body)) == problem.document()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_only_what_passes_has_a_time_to_come_back(kind: ProblemKind) -> None:
    headers = problem_response(Problem(kind, "")).headers
    assert ("retry-after" in headers) is (kind.status == 503)
    assert ("www-authenticate" in headers) is (kind.status == 401)


@pytest.mark.parametrize("kind", [problems.UNAVAILABLE, problems.FUNCTION_ERROR])
def test_a_problem_may_have_a_time_of_its_own_to_come_back(kind: ProblemKind) -> None:
    assert problem_response(Problem(kind, "", retry_after_s=30)).headers["retry-after"] == "30"


def test_a_problem_may_have_further_headers() -> None:
    response = problem_response(Problem(problems.METHOD, ""), {"Allow": "GET"})
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("served", "headers"),
    [
        (b"", {}),
        (b"c0de", {b"x-skipper-code": b"c0de"}),
        (b"c0de a@1 b@2", {b"x-skipper-code": b"c0de", b"x-skipper-model": b"a@1, b@2"}),
        (b" a@1", {b"x-skipper-model": b"a@1"}),
        (
            b"c0de a@1 b@2 a/41 b/3",
            {
                b"x-skipper-code": b"c0de",
                b"x-skipper-model": b"a@1, b@2",
                b"x-skipper-deployment": b"a/41, b/3",
            },
        ),
    ],
)
def test_a_reply_names_the_code_the_models_and_the_deployments_that_served_it(
    served: bytes, headers: dict[bytes, bytes]
) -> None:
    assert dict(served_headers(served)) == headers


def test_a_problem_names_what_served_the_call_that_failed() -> None:
    response = problem_response(Problem(problems.FUNCTION_ERROR, "", served=b"c0de a@1"))
    assert response.headers["x-skipper-code"] == "c0de"
    assert response.headers["x-skipper-model"] == "a@1"


def test_half_a_letter_in_a_document_is_a_question_mark() -> None:
    text = "half \ud800 and \0 and é and \U0001f600"
    found = json.loads(bytes(Json({"items": [{"error": text}]}).body).decode())
    assert found == {"items": [{"error": "half ? and \0 and é and \U0001f600"}]}
    problem = problem_response(Problem(problems.FUNCTION_ERROR, text))
    assert (
        json.loads(bytes(problem.body).decode())["detail"] == "half ? and \0 and é and \U0001f600"
    )


NOT_STORED = [
    (FullError("files take 5 GB already"), 507),
    (OSError(errno.ENOSPC, "No space left on device", "/a/folder/of/ours"), 507),
    (PermissionError(errno.EACCES, "Permission denied", "/a/folder/of/ours"), 507),
    (UnavailableError("the ledger does not answer"), 503),
    (NotFoundError("the ledger is another's"), 503),
]


@pytest.mark.parametrize(("error", "status"), NOT_STORED, ids=lambda each: type(each).__name__)
def test_what_cannot_be_stored_says_whether_for_want_of_room(error: Exception, status: int) -> None:
    with pytest.raises(Problem) as raised, storing("the file"):
        raise error
    assert raised.value.kind.status == status
    assert "/a/folder" not in raised.value.detail


@pytest.mark.parametrize(("error", "status"), NOT_STORED, ids=lambda each: type(each).__name__)
async def test_a_value_that_cannot_be_kept_leaves_the_spool(
    tmp_path: Path, error: Exception, status: int
) -> None:
    async def add(part: object) -> object:
        raise error

    values, files = SimpleNamespace(spool=Spool(tmp_path)), SimpleNamespace(add=add)
    context: Any = SimpleNamespace(values=values, files=files)
    with pytest.raises(Problem) as raised:
        await kept_response(context, json_part(b"[1, 2]"), b"")
    assert raised.value.kind.status == status
    assert files_in(tmp_path) == []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_value_that_the_spool_has_no_room_for_is_told_so() -> None:
    def put(data: bytes) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    context: Any = SimpleNamespace(values=SimpleNamespace(spool=SimpleNamespace(put=put)))
    with pytest.raises(Problem, match="No space left on device") as raised:
        await kept_response(context, json_part(b"[1, 2]"), b"")
    assert raised.value.kind is problems.NO_ROOM


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Problem(problems.TOO_LARGE, "more than is accepted"), 413),
        (UnavailableError("the ledger does not answer"), 503),
        (RuntimeError("a mistake of ours"), 500),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_whatever_a_request_fails_with_is_answered(error: Exception, status: int) -> None:
    caller = failing_with(error)
    await settle()
    answer = caller.answer()
    assert answer.status == status
    assert b"a mistake of ours" not in answer.body


async def test_who_has_left_is_not_answered() -> None:
    caller = failing_with(GoneError())
    await settle()
    assert caller.answers() == []


def failing_with(error: Exception) -> Caller:
    """The caller of a request that ends in ``error``."""

    async def work(exchange: Exchange) -> None:
        with failures_answered(AsgiView(exchange), "a request"):
            raise error

    caller = Caller(Answering(lambda exchange: exchange.run(work(exchange))))
    caller.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    return caller
