"""When tasks start, how often they are tried, and how those that do not end by themselves end."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Gate, Tree, started_at, until
from tests.chaos import cancels


def attempts_of(tree: Tree, task_id: str) -> list[Any]:
    items: list[Any] = tree.json(f"/v1/tasks/{task_id}/attempts")["items"]
    return items


def seconds(task: Any, first: str, last: str) -> float:
    span = datetime.fromisoformat(task[last]) - datetime.fromisoformat(task[first])
    return span.total_seconds()


# --- retries and attempts ---


def test_only_named_exceptions_are_tried_again(plain: Tree) -> None:
    assert plain.result(plain.submit("work.picky", {"transient": True})) == 3
    task = plain.ended(plain.submit("work.picky", {"transient": False}))
    assert (task["state"], task["attempt"], task["max_attempts"]) == ("failed", 1, 3)
    assert task["error"]["retryable"] is False


def test_an_attempt_that_crashed_tells_what_ran_it_and_why_it_ended(plain: Tree) -> None:
    task_id = plain.submit("work.dies")
    assert plain.ended(task_id)["state"] == "crashed"
    first, last = attempts_of(plain, task_id)
    for number, attempt in ((1, first), (2, last)):
        assert (attempt["number"], attempt["outcome"]) == (number, "crashed")
        assert attempt["code"] == plain.function("work.dies")["code"]
        assert attempt["instance"].startswith("work.dies#")
        assert attempt["error"]["type"] == "/problems/instance-died"
        assert attempt["started_at"] <= attempt["ended_at"]
    assert first["instance"] != last["instance"]


# --- limits of time ---


def test_a_function_that_hears_no_signal_is_killed_a_grace_after_its_deadline(
    plain: Tree, gate: Gate
) -> None:
    task_id = plain.submit("work.numb", gate.body)
    gate.wait_for()
    (pid,) = (int(path.name.rpartition("-")[2]) for path in gate.path.parent.glob("*.in-*"))
    task = plain.ended(task_id)
    assert task["state"] == "timed_out"
    assert seconds(task, "deadline_at", "finished_at") < 10
    assert started_at(pid) == "", "its end was told before its process had gone"


def test_a_start_that_takes_too_long_is_an_attempt_that_timed_out(plain: Tree) -> None:
    task_id = plain.submit("work.Sleeper")
    task = plain.ended(task_id)
    assert (task["state"], task["attempt"], task["max_attempts"]) == ("timed_out", 2, 2)
    assert "did not start: it did not finish loading within 0.3 s" in task["error"]["detail"]
    assert [attempt["outcome"] for attempt in attempts_of(plain, task_id)] == ["timed_out"] * 2


# --- when a task starts ---


def test_a_delayed_task_starts_when_it_is_due_and_not_before(plain: Tree) -> None:
    response = plain.invoke("bodies.add", {"x": 1}, x_skipper_delay="1.5s")
    task = response.json()
    assert (response.status_code, task["state"]) == (202, "queued")
    assert seconds(task, "created_at", "available_at") == pytest.approx(1.5, abs=0.01)
    assert plain.result(task["id"]) == 11
    assert seconds(plain.task(task["id"]), "available_at", "started_at") >= 0


def test_a_delayed_task_is_cancelled_before_it_is_due(plain: Tree) -> None:
    task_id = plain.submit("work.adds", {"x": 1}, x_skipper_delay="1h")
    response = plain.post(f"/v1/tasks/{task_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")


def test_a_task_that_nobody_could_start_in_time_expires_and_never_runs(
    plain: Tree, gate: Gate
) -> None:
    before = [plain.submit("hold.task", gate.body) for _ in range(plain.pool("cpu")["task_slots"])]
    gate.wait_for(len(before))
    task_id = plain.submit("bodies.add", {"x": 1}, x_skipper_expires="0.2")
    task = plain.ended(task_id)
    assert (task["state"], task["attempt"], task["started_at"]) == ("expired", 0, None)
    assert "Nobody had started it" in task["error"]["detail"]
    problem(plain.get(f"/v1/tasks/{task_id}/result"), 504, "deadline-passed")
    gate.open()
    for other in before:
        assert plain.result(other) == "through"
    assert plain.task(task_id) == task


@pytest.mark.parametrize(
    ("header", "value", "told"),
    [
        ("x_skipper_priority", "11", "from -10 to 10"),
        ("x_skipper_delay", "soon", "send seconds, or '90s'"),
        ("x_skipper_expires", "0", "more than 0 seconds"),
    ],
)
def test_terms_that_cannot_be_understood_are_refused(
    plain: Tree, header: str, value: str, told: str
) -> None:
    response = plain.invoke("bodies.add", {"x": 1}, **{header: value})
    problem(response, 400, "bad-request")
    assert told in response.json()["detail"]


# --- cancels ---


def test_a_cancel_does_not_wait_for_a_start_that_hangs(plain: Tree) -> None:
    slots = plain.pool("cpu")["task_slots"]
    ids = [plain.submit("hold.Loading") for _ in range(slots)]
    for task_id in ids:
        plain.wait_for_state(task_id, "running")
    began = time.monotonic()
    for task_id in ids:
        assert plain.post(f"/v1/tasks/{task_id}/cancel").status_code in (200, 202)
    assert [plain.ended(task_id)["state"] for task_id in ids] == ["cancelled"] * slots
    assert plain.result(plain.submit("work.adds", {"x": 1})) == 2
    assert time.monotonic() - began < 20, "it loads for a minute"
    until(lambda: not starting(plain, "hold.Loading"), what="the end of what was starting")


def starting(tree: Tree, function: str) -> list[Any]:
    instances = tree.pool("cpu")["instances"]
    return [i for i in instances if i["function"] == function and i["lane"] == "tasks"]


@pytest.mark.timeout(300)
def test_cancels_at_any_moment_end_their_task_once_and_no_other(
    plain: Tree, tmp_path: Path
) -> None:
    began = time.monotonic()
    fates = asyncio.run(cancels.run(plain.url, 120, 4, tmp_path / "effects.log"))
    print(cancels.report(fates, time.monotonic() - began))
    assert cancels.violations(fates) == []
    met = {fate.phase for fate in fates}
    assert {"queued", "starting", "running", "ended", "spared"} <= met
