"""Answers over HTTP: problems, and what names the code and the models that served a reply."""

from __future__ import annotations

import json

import pytest

from skipper import problems
from skipper.gateway.answers import Json, problem_response, served_headers
from skipper.gateway.problems import Problem
from skipper.problems import KINDS, ProblemKind


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
    ],
)
def test_a_reply_names_the_code_and_the_models_that_served_it(
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
