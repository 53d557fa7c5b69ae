import json
from typing import Any

import pytest

from skipper import problems
from skipper.gateway.problems import Problem, from_outcome
from skipper.outcomes import Outcome
from skipper.problems import KINDS, ProblemKind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_a_problem_is_a_document_that_says_what_its_status_line_does(kind: ProblemKind) -> None:
    response = Problem(kind, "more of it", {"function": "a.b"}).response()
    document = json.loads(bytes(response.body))
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == document["status"] == kind.status
    assert document["type"] == f"/problems/{kind.slug}"
    assert (document["title"], document["detail"]) == (kind.title, "more of it")
    assert document["function"] == "a.b"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_only_what_passes_says_when_to_come_back(kind: ProblemKind) -> None:
    assert ("retry-after" in Problem(kind, "").response().headers) is (kind.status == 503)


def test_a_problem_may_say_its_own_time_to_come_back() -> None:
    response = Problem(problems.UNAVAILABLE, "", headers={"Retry-After": "30"}).response()
    assert response.headers["retry-after"] == "30"


def test_a_function_that_is_tried_again_later_says_when() -> None:
    body = json.dumps({"detail": "no", "retry_after_s": 30}).encode()
    problem = from_outcome(Outcome.BROKEN, body, with_traceback=False)
    assert problem.response().headers["retry-after"] == "30"
    assert "retry_after_s" not in problem.document()


def failed(**members: Any) -> bytes:
    return json.dumps({"detail": "ValueError: no", **members}).encode()


@pytest.mark.parametrize("with_traceback", [True, False])
def test_a_traceback_is_shown_to_those_who_may_see_it(with_traceback: bool) -> None:
    problem = from_outcome(
        Outcome.FAILED,
        failed(traceback="Traceback…", exception="ValueError"),
        with_traceback=with_traceback,
        function="a.b",
    )
    document = problem.document()
    assert ("traceback" in document) is with_traceback
    assert (document["detail"], document["exception"]) == ("ValueError: no", "ValueError")
    assert document["function"] == "a.b"
