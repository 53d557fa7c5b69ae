import json
from typing import Any

import pytest

from skipper import problems
from skipper.gateway.problems import Problem, from_outcome
from skipper.problems import OF_OUTCOME, ProblemKind
from skipper.task import Outcome

STATUS = {
    Outcome.MALFORMED: 400,
    Outcome.NOT_FOUND: 404,
    Outcome.CANCELLED: 409,
    Outcome.INVALID: 422,
    Outcome.FAILED: 500,
    Outcome.DIED: 502,
    Outcome.BROKEN: 503,
    Outcome.BUSY: 503,
    Outcome.UNAVAILABLE: 503,
    Outcome.TIMED_OUT: 504,
    Outcome.TOO_DEEP: 508,
}
KINDS = [value for value in vars(problems).values() if isinstance(value, ProblemKind)]


def test_every_outcome_but_a_value_has_its_status() -> None:
    assert {outcome: kind.status for outcome, kind in OF_OUTCOME.items()} == STATUS
    assert set(STATUS) == set(Outcome) - {Outcome.OK}


def test_no_two_kinds_of_problem_are_called_the_same() -> None:
    assert len(KINDS) > 15
    assert len({kind.slug for kind in KINDS}) == len(KINDS)


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
    told = json.dumps({"detail": "no", "retry_after_s": 30}).encode()
    problem = from_outcome(Outcome.BROKEN, told, with_traceback=False)
    assert problem.response().headers["retry-after"] == "30"
    assert "retry_after_s" not in problem.document()


@pytest.mark.parametrize(
    ("status", "slug", "title"),
    [(401, "unauthorized", "Unauthorized"), (416, None, None), (501, "not-implemented", None)],
)
def test_a_status_without_a_kind_of_its_own_is_a_problem_too(
    status: int, slug: str | None, title: str | None
) -> None:
    document = Problem(problems.plain(status), "so it is").document()
    assert document["status"] == status
    assert document["type"].startswith("/problems/")
    assert slug is None or document["type"] == f"/problems/{slug}"
    assert document["title"] if title is None else document["title"] == title


def failed(**members: Any) -> bytes:
    return json.dumps({"detail": "ValueError: no", **members}).encode()


@pytest.mark.parametrize("with_traceback", [True, False])
def test_a_traceback_is_told_to_those_who_may_see_it(with_traceback: bool) -> None:
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


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"detail": "d", "outcome": "timed_out"}, 504),
        ({"detail": "d", "outcome": "died"}, 502),
        ({"detail": "d"}, 500),
    ],
)
def test_the_error_of_an_ended_task_is_the_problem_of_its_outcome(
    error: dict[str, Any], status: int
) -> None:
    given = dict(error)
    document = problems.task_error(error, with_traceback=False)
    assert (document["status"], document["detail"]) == (status, "d")
    assert "outcome" not in document
    assert error == given
