import json
from typing import Any

import pytest

from skipper.gateway.problems import Problem, from_outcome
from skipper.outcomes import Outcome
from skipper.problems import KINDS, ProblemKind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_a_problem_is_a_document_of_its_kind(kind: ProblemKind) -> None:
    document = Problem(kind, "more of it", {"function": "a.b"}).document()
    assert (document["status"], document["type"]) == (kind.status, f"/problems/{kind.slug}")
    assert (document["title"], document["detail"]) == (kind.title, "more of it")
    assert document["function"] == "a.b"


def test_a_function_that_is_tried_again_later_has_the_time_beside_its_document() -> None:
    body = json.dumps({"detail": "no", "retry_after_s": 30}).encode()
    problem = from_outcome(Outcome.BROKEN, body, with_traceback=False)
    assert problem.retry_after_s == 30
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
