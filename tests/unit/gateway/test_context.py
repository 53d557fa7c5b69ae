import asyncio
import json
from typing import Any

import pytest

from skipper.gateway.context import sse
from skipper.task import State, Task
from skipper.tasks.documents import task_document, timestamp
from skipper.tasks.watchers import Watchers


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
def test_times_are_told_in_utc_to_the_millisecond(seconds: float | None, text: str | None) -> None:
    assert timestamp(seconds) == text


def test_a_task_is_told_with_every_member_of_the_api() -> None:
    assert set(shown()) == {
        *("id", "function", "kind", "pool", "state", "attempt", "max_attempts", "priority"),
        *("created_at", "available_at", "expires_at"),
        *("started_at", "finished_at", "deadline_at", "progress", "error", "result", "model"),
        *("code", "parent_id", "request_id", "schedule"),
    }
    json.dumps(shown())


def test_a_deadline_is_the_ledgers_since_only_the_host_knows_when_a_run_began() -> None:
    assert shown(started_at=60.0, timeout_s=30.0)["deadline_at"] is None
    assert shown(deadline_at=95.5)["deadline_at"] == "1970-01-01T00:01:35.500Z"


@pytest.mark.parametrize("state", [*State])
def test_only_a_task_that_succeeded_has_a_result_to_go_to(state: State) -> None:
    link = "/v1/tasks/t/result" if state is State.SUCCEEDED else None
    assert shown(state=state)["result"] == link


def test_an_error_is_told_as_a_problem_and_its_traceback_to_those_who_may_see_it() -> None:
    failed = task(error={"detail": "no", "outcome": "failed", "traceback": "T"})
    told = task_document(failed, None, with_traceback=True)["error"]
    assert (told["status"], told["detail"], told["traceback"]) == (500, "no", "T")
    assert "traceback" not in task_document(failed, None, with_traceback=False)["error"]


@pytest.mark.parametrize(
    ("data", "id_", "text"),
    [
        ({"done": 1}, None, b'event: progress\ndata: {"done": 1}\n\n'),
        (b"[1,2]", 7, b"id: 7\nevent: progress\ndata: [1,2]\n\n"),
        ("two\nlines", 0, b'id: 0\nevent: progress\ndata: "two\\nlines"\n\n'),
    ],
)
def test_an_event_is_one_block_of_lines(data: Any, id_: int | None, text: bytes) -> None:
    assert sse("progress", data, id_) == text


async def test_who_watches_a_task_is_woken_by_its_changes_alone() -> None:
    watchers = Watchers()
    with watchers.watching("a") as mine, watchers.watching("a") as too, watchers.watching("b") as b:
        watchers.changed(["a", "nobody watches"])
        assert (mine.is_set(), too.is_set(), b.is_set()) == (True, True, False)


async def test_who_leaves_is_forgotten_and_the_others_are_not() -> None:
    watchers = Watchers()
    with watchers.watching("a") as mine:
        with watchers.watching("a"):
            pass
        watchers.changed(["a"])
        assert mine.is_set()
    assert not watchers._watching


async def test_who_follows_a_task_also_hears_of_what_it_says() -> None:
    watchers = Watchers()
    with watchers.watching("a") as watching, watchers.following("a") as following:
        watchers.emitted(["a"])
        assert (watching.is_set(), following.is_set()) == (False, True)
        following.clear()
        watchers.changed(["a"])
        assert (watching.is_set(), following.is_set()) == (True, True)


async def test_at_the_end_everybody_is_let_go() -> None:
    watchers = Watchers()
    with watchers.watching("a") as a, watchers.watching("b") as b:
        watchers.close()
        await asyncio.wait_for(asyncio.gather(a.wait(), b.wait()), 5)
    assert watchers.is_closing
