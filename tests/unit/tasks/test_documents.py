"""A task as others are shown it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from skipper.task import State, Task
from skipper.tasks.documents import TASK_SCHEMA, task_document, timestamp

PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text("utf-8")


def task(**given: Any) -> Task:
    values: dict[str, Any] = {
        "id": "t",
        "function": "f.f",
        "kind": "data",
        "pool": "cpu",
        "state": State.QUEUED,
        "created_at": 0.0,
        "available_at": 0.0,
    }
    return Task(**(values | given))


def shown(**given: Any) -> dict[str, Any]:
    return task_document(task(**given), None, with_traceback=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.1234, "2023-11-14T22:13:20.123Z"),
    ],
)
def test_times_are_in_utc_to_the_millisecond(seconds: float | None, text: str | None) -> None:
    assert timestamp(seconds) == text


def test_a_document_has_the_members_of_its_schema() -> None:
    assert list(shown()) == list(TASK_SCHEMA["properties"]) == TASK_SCHEMA["required"]
    json.dumps(shown())


def test_the_page_lists_the_members_of_a_task() -> None:
    listed = re.search(r"carries `Location`, `Retry-After` and the task:\s+`([^`]*)`", PAGE)
    assert listed is not None, "docs/rest.md no longer lists a task's members"
    assert re.split(r",\s+", listed[1]) == list(shown())


def test_a_deadline_is_the_ledgers_since_only_the_host_knows_when_a_run_began() -> None:
    assert shown(started_at=60.0, timeout_s=30.0)["deadline_at"] is None
    assert shown(deadline_at=95.5)["deadline_at"] == "1970-01-01T00:01:35.500Z"


@pytest.mark.parametrize("state", [*State])
def test_only_a_task_that_succeeded_has_a_result_to_go_to(state: State) -> None:
    link = "/v1/tasks/t/result" if state is State.SUCCEEDED else None
    assert shown(state=state)["result"] == link


def test_an_error_is_a_problem_with_its_traceback_for_those_who_may_see_it() -> None:
    failed = task(error={"detail": "no", "outcome": "failed", "traceback": "T"})
    error = task_document(failed, None, with_traceback=True)["error"]
    assert (error["status"], error["detail"], error["traceback"]) == (500, "no", "T")
    assert "traceback" not in task_document(failed, None, with_traceback=False)["error"]
