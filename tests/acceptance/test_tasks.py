"""Tasks over REST: acceptance, waiting, keys, lists, events, logs, cancelling, trying again."""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.events import events_of, sse
from tests.acceptance.tree import Gate, Tree, until

MEMBERS = """id function kind pool state attempt max_attempts priority created_at available_at
    expires_at started_at finished_at deadline_at progress error result model code parent_id
    request_id schedule checkpoint file"""


# --- acceptance and waiting ---


def test_a_training_function_is_answered_with_a_task(plain: Tree) -> None:
    response = plain.invoke("work.adds", {"x": 1}, x_request_id="mine")
    task = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/tasks/{task['id']}"
    assert response.headers["retry-after"]
    assert response.headers["x-request-id"] == "mine"
    assert "preference-applied" not in response.headers
    assert set(task) == set(MEMBERS.split()) | {"checked"}
    assert task["checked"] is True
    assert set(plain.task(task["id"])) == set(MEMBERS.split())
    assert (task["function"], task["kind"], task["pool"]) == ("work.adds", "training", "cpu")
    assert task["request_id"] == "mine"
    assert plain.result(task["id"]) == 2


def test_who_accepts_events_gets_the_tasks_life(plain: Tree) -> None:
    path, headers = "/v1/functions/work.talks/invoke", {"Accept": "text/event-stream"}
    with plain.http.stream("POST", path, json={"steps": 2}, headers=headers) as response:
        events = list(sse(response))
    assert response.headers["vary"] == "Accept"
    task_id = response.headers["location"].rpartition("/")[2]
    assert events[0].type == "state"
    assert [event.type for event in events].count("progress") == 2
    assert (events[-1].type, events[-1].data["id"]) == ("done", task_id)
    assert plain.task(task_id)["state"] == "succeeded"


def test_who_asks_for_a_task_gets_it_whatever_else_is_accepted(plain: Tree) -> None:
    accept = {"accept": "text/event-stream"}
    response = plain.invoke("work.adds", {"x": 1}, prefer="respond-async", **accept)
    assert response.status_code == 202
    assert plain.result(response.json()["id"]) == 2


def test_any_function_is_a_task_for_who_asks_so(plain: Tree) -> None:
    response = plain.invoke("bodies.add", {"x": 1}, prefer="respond-async")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["vary"] == "Prefer"
    task_id = response.headers["location"].rpartition("/")[2]
    assert plain.result(task_id) == 11


def test_a_waiting_caller_gets_the_value_if_it_comes_in_time(plain: Tree, gate: Gate) -> None:
    response = plain.invoke("work.adds", {"x": 5}, prefer="wait=60")
    assert (response.status_code, response.json()) == (200, 6)
    assert response.headers["preference-applied"] == "wait=60"
    assert response.headers["location"].startswith("/v1/tasks/")
    assert re.fullmatch(r"[0-9a-f]{12}", response.headers["x-skipper-code"])
    late = plain.invoke("hold.task", gate.body, prefer="wait=0.2")
    assert late.status_code == 202
    assert late.headers["retry-after"]
    gate.open()
    assert plain.result(late.json()["id"]) == "through"


def test_a_result_is_told_while_and_after_the_task_runs(plain: Tree, gate: Gate) -> None:
    task_id = plain.submit("hold.task", gate.body)
    gate.wait_for()
    early = plain.get(f"/v1/tasks/{task_id}/result")
    assert (early.status_code, early.json()["state"]) == (202, "running")
    assert early.headers["retry-after"]
    gate.open()
    assert plain.result(task_id) == "through"
    response = plain.get(f"/v1/tasks/{task_id}/result")
    assert response.headers["x-skipper-code"] == plain.task(task_id)["code"]


def test_the_document_of_a_task_follows_its_life(plain: Tree, gate: Gate) -> None:
    task_id = plain.submit("hold.task", gate.body)
    gate.wait_for()
    running = plain.wait_for_state(task_id, "running")
    assert running["attempt"] == 1
    assert running["finished_at"] is running["result"] is running["error"] is None
    gate.open()
    ended = plain.ended(task_id)
    assert ended["state"] == "succeeded"
    assert ended["result"] == f"/v1/tasks/{task_id}/result"
    times = [ended[name] for name in ("created_at", "started_at", "finished_at")]
    assert times == sorted(times)
    for text in times:
        assert datetime.now(UTC) - datetime.fromisoformat(text) < timedelta(minutes=10)
        assert text.endswith("Z")


def test_a_task_knows_its_deadline(plain: Tree) -> None:
    task_id = plain.submit("work.time_left")
    left = plain.result(task_id)
    assert 20 < left <= 30
    task = plain.task(task_id)
    span = datetime.fromisoformat(task["deadline_at"]) - datetime.fromisoformat(task["started_at"])
    assert span == timedelta(seconds=30)


def test_large_inputs_and_results_make_the_round_trip(plain: Tree) -> None:
    text = secrets.token_hex(200_000)
    assert plain.result(plain.submit("bodies.echo", {"value": text})) == text


# --- idempotency ---


@pytest.mark.parametrize("spelling", ["{}", '"{}"'])
def test_a_repeated_key_gives_the_same_task(plain: Tree, spelling: str) -> None:
    key = secrets.token_hex(8)
    first = plain.submit("work.adds", {"x": 1}, idempotency_key=key)
    again = plain.submit("work.adds", {"x": 1}, idempotency_key=spelling.format(key))
    assert again == first
    assert plain.result(first) == 2
    assert plain.submit("work.adds", {"x": 1}, idempotency_key=key) == first
    answer = plain.invoke("work.adds", {"x": 1}, idempotency_key=key, prefer="wait=10")
    assert answer.json() == 2


def test_a_key_cannot_be_used_for_another_request(plain: Tree) -> None:
    key = secrets.token_hex(8)
    plain.submit("work.adds", {"x": 1}, idempotency_key=key)
    for name, body in (("work.adds", {"x": 2}), ("bodies.add", {"x": 1})):
        response = plain.invoke(name, body, idempotency_key=key, prefer="respond-async")
        assert response.status_code == 422
        assert response.json()["type"] == "/problems/idempotency-key-reused"


@pytest.mark.parametrize("key", ["x" * 256, "two words", '""'])
def test_what_cannot_be_a_key_is_refused(plain: Tree, key: str) -> None:
    response = plain.invoke("work.adds", {"x": 1}, idempotency_key=key)
    assert (response.status_code, response.json()["type"]) == (400, "/problems/bad-request")


def test_one_key_sent_by_many_at_once_makes_one_task(plain: Tree) -> None:
    key = secrets.token_hex(8)

    def submit(_: int) -> str:
        return plain.submit("work.adds", {"x": 1}, idempotency_key=key)

    with ThreadPoolExecutor(8) as callers:
        assert len(set(callers.map(submit, range(8)))) == 1


# --- lists ---


def test_pages_show_every_task_once_newest_first(plain: Tree) -> None:
    mine = [plain.submit("bodies.size", {"text": "x" * n}) for n in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"function": "bodies.size", "limit": 3}
    while True:
        page = plain.json("/v1/tasks", params=query)
        assert 1 <= len(page["items"]) <= 3
        seen += [task["id"] for task in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == mine[::-1]
    for task_id in mine:
        plain.ended(task_id)
    states = plain.json("/v1/tasks", params={"function": "bodies.size", "state": "queued"})
    assert states == {"items": [], "next": None}


# --- what a task says ---


def test_everything_a_task_says_is_kept_in_order(plain: Tree) -> None:
    task_id = plain.submit("work.talks", {"steps": 4}, x_request_id="talk")
    value = plain.result(task_id)
    assert value == {"task": task_id, "attempt": 1, "request": "talk"}
    assert plain.task(task_id)["progress"] == {"done": 4, "total": 4, "loss": 0.25}
    logs = plain.json(f"/v1/tasks/{task_id}/logs")
    assert logs["dropped"] == 0
    told = {(line["stream"], line["text"]) for line in logs["items"]}
    assert {
        ("stdout", "to stdout"),
        ("stderr", "to stderr"),
        ("stderr", "to logging"),
        ("warning", "to the run"),
    } == told
    events = events_of(plain, task_id)
    assert [event.data["done"] for event in events if event.type == "progress"] == [1, 2, 3, 4]
    curve = [event.data for event in events if event.type == "metric"]
    assert [(point["name"], point["step"]) for point in curve] == [("loss", n) for n in range(4)]
    assert [event.type for event in events][-2:] == ["state", "done"]
    assert events[-1].data["state"] == "succeeded"


def test_events_arrive_while_the_task_runs(plain: Tree, gate: Gate) -> None:
    task_id = plain.submit("hold.task", gate.body)
    with plain.http.stream("GET", f"/v1/tasks/{task_id}/events") as response:
        states = []
        for event in sse(response):
            if event.type == "state":
                states.append(event.data["state"])
            if event.type == "state" and event.data["state"] == "running":
                gate.open()
            if event.type == "done":
                break
    assert states[-2:] == ["running", "succeeded"]


def test_what_a_function_prints_before_it_returns_is_never_lost(plain: Tree) -> None:
    task_id = plain.submit("bad.chats", {"lines": 3000})
    assert plain.result(task_id) == 3000
    logs = plain.json(f"/v1/tasks/{task_id}/logs")
    assert [line["text"] for line in logs["items"]] == [f"line {n}" for n in range(3000)]


def test_a_line_without_an_end_belongs_to_the_task_that_wrote_it(plain: Tree) -> None:
    for _ in range(5):
        task_id = plain.submit("bad.ends_no_line")
        plain.ended(task_id)
        lines = plain.json(f"/v1/tasks/{task_id}/logs")["items"]
        assert [line["text"] for line in lines] == ["first", "last"]


# --- how tasks end ---


def test_an_attempt_that_fails_is_followed_by_another(plain: Tree) -> None:
    task_id = plain.submit("work.flaky", {"succeed_at": 2})
    assert plain.result(task_id) == 2
    task = plain.task(task_id)
    assert (task["attempt"], task["max_attempts"]) == (2, 3)
    attempts = plain.json(f"/v1/tasks/{task_id}/attempts")["items"]
    assert [attempt["outcome"] for attempt in attempts] == ["failed", "succeeded"]
    assert "attempt 1 fails" in attempts[0]["error"]["detail"]


def test_a_process_that_dies_uses_up_an_attempt(plain: Tree) -> None:
    task = plain.ended(plain.submit("work.dies"))
    assert (task["state"], task["attempt"], task["max_attempts"]) == ("crashed", 2, 2)
    assert task["error"]["type"] == "/problems/instance-died"
    assert task["error"]["status"] == 502


def test_a_task_past_its_timeout_ends_so(plain: Tree) -> None:
    task = plain.ended(plain.submit("work.late"))
    assert task["state"] == "timed_out"
    assert task["error"]["type"] == "/problems/deadline-passed"


def test_sys_exit_is_a_failure_like_any_other(plain: Tree) -> None:
    task = plain.ended(plain.submit("work.exits"))
    assert task["state"] == "failed"
    assert "done with it" in task["error"]["detail"]


# --- cancelling and trying again ---


def test_a_running_task_that_looks_is_cancelled_by_asking(plain: Tree, gate: Gate) -> None:
    task_id = plain.submit("hold.task", gate.body)
    gate.wait_for()
    response = plain.post(f"/v1/tasks/{task_id}/cancel")
    assert response.status_code in (200, 202), response.text
    assert plain.ended(task_id)["state"] in ("cancelled", "succeeded")
    assert plain.post(f"/v1/tasks/{task_id}/cancel").status_code == 409


def test_a_running_task_that_does_not_look_is_cancelled_by_force(plain: Tree, gate: Gate) -> None:
    task_id = plain.submit("hold.deaf", gate.body)
    gate.wait_for()
    assert plain.post(f"/v1/tasks/{task_id}/cancel").status_code == 202
    task = plain.ended(task_id)
    assert task["state"] == "cancelled"
    assert task["attempt"] == 1
    result = plain.get(f"/v1/tasks/{task_id}/result")
    assert (result.status_code, result.json()["type"]) == (409, "/problems/cancelled")


def test_a_queued_task_is_cancelled_at_once_and_never_runs(plain: Tree, gate: Gate) -> None:
    before = [plain.submit("hold.task", gate.body) for _ in range(plain.pool("cpu")["task_slots"])]
    gate.wait_for(len(before))
    task_id = plain.submit("hold.task", gate.body)
    response = plain.post(f"/v1/tasks/{task_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    gate.open()
    for other in before:
        assert plain.result(other) == "through"
    task = plain.task(task_id)
    assert (task["state"], task["attempt"], task["started_at"]) == ("cancelled", 0, None)


def test_a_retrying_task_is_cancelled_before_its_next_attempt(plain: Tree) -> None:
    task_id = plain.submit("work.fails_for_long")
    plain.wait_for_state(task_id, "retrying")
    response = plain.post(f"/v1/tasks/{task_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")


def test_an_ended_task_cannot_be_cancelled(plain: Tree) -> None:
    task_id = plain.submit("work.adds", {"x": 1})
    plain.ended(task_id)
    response = plain.post(f"/v1/tasks/{task_id}/cancel")
    assert (response.status_code, response.json()["type"]) == (409, "/problems/conflict")
    assert response.json()["task"]["state"] == "succeeded"
    assert plain.task(task_id)["state"] == "succeeded"


def test_a_retry_is_a_new_task_with_the_same_input(plain: Tree, gate: Gate) -> None:
    task_id = plain.submit("hold.task", gate.body)
    gate.wait_for()
    early = plain.post(f"/v1/tasks/{task_id}/retry")
    assert (early.status_code, early.json()["type"]) == (409, "/problems/conflict")
    gate.open()
    plain.ended(task_id)
    response = plain.post(f"/v1/tasks/{task_id}/retry")
    assert response.status_code == 202
    fresh = response.headers["location"].rpartition("/")[2]
    assert fresh != task_id
    assert plain.result(fresh) == "through"
    assert plain.task(task_id)["state"] == "succeeded"


def test_many_tasks_all_succeed_once(plain: Tree) -> None:
    ids = [plain.submit("work.adds", {"x": n}) for n in range(60)]
    assert len(set(ids)) == 60
    assert [plain.result(task_id) for task_id in ids] == [n + 1 for n in range(60)]
    assert all(plain.task(task_id)["attempt"] == 1 for task_id in ids)


def test_the_cancelled_are_not_served_to_waiting_callers_as_success(
    plain: Tree, gate: Gate
) -> None:
    with ThreadPoolExecutor(1) as callers:
        answer = callers.submit(plain.invoke, "hold.deaf", gate.body, prefer="wait=50")
        gate.wait_for()
        query = {"function": "hold.deaf", "state": "running"}
        (task,) = until(lambda: plain.json("/v1/tasks", params=query)["items"])
        plain.post(f"/v1/tasks/{task['id']}/cancel")
        assert answer.result().status_code == 409


def test_training_on_every_core_does_not_keep_inference_from_answering(
    plain: Tree, gate: Gate
) -> None:
    slots = plain.pool("cpu")["task_slots"]
    tasks = [plain.submit("work.burns", gate.body) for _ in range(slots)]
    gate.wait_for(slots)
    assert [plain.value("work.niceness") for _ in range(50)] == [0] * 50
    gate.open()
    assert all(plain.result(task_id) > 0 for task_id in tasks), "tasks give way"
