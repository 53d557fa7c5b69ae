"""What events say, and the tasks that deliver them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from skipper.ledger.records import NewTask, Result
from skipper.settings.webhooks import ATTEMPTS, DELIVER, Webhook
from skipper.task import State, Task
from skipper.tasks.deliveries import GRACE_S, VALUE_BYTES, WebhookEvent, deliveries, ending, trial
from skipper.tasks.documents import task_document
from skipper.values.value import Value

NOW = 1767261600.0
SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four.").decode()


def webhook(**values: Any) -> Webhook:
    given = {"url": "https://ops.example.com/token", "secret": SECRET} | values
    return Webhook.model_validate(given)


ONE = Value(inline=b"1")


def task(**values: Any) -> Task:
    usual = {"id": "t1", "function": "f.f", "kind": "data", "pool": "cpu", "state": "succeeded"}
    times = {"created_at": NOW - 2, "available_at": NOW - 2, "started_at": NOW - 1}
    return Task.model_validate({**usual, **times, "finished_at": NOW, **values})


def told(event: WebhookEvent) -> Any:
    return json.loads(event.text)


def body_of(new: NewTask) -> Any:
    assert new.input.inline is not None
    return json.loads(new.input.inline)


@pytest.mark.parametrize("state", ["succeeded", "timed_out"])
def test_an_event_says_what_has_happened_when_and_to_which_task(state: str) -> None:
    ended = task(state=state)
    event = told(ending(Result(ended, None), {"done": 1}))
    assert event == {
        "type": f"task.{state}",
        "timestamp": "2026-01-01T10:00:00.000Z",
        "data": {"task": task_document(ended, {"done": 1}, with_traceback=False)},
    }


def test_a_traceback_is_told_to_nobody() -> None:
    error = {"detail": "ValueError: no", "outcome": "failed", "traceback": "File secret.py"}
    event = ending(Result(task(state=State.FAILED, error=error), None), None)
    assert told(event)["data"]["task"]["error"]["detail"] == "ValueError: no"
    assert "secret.py" not in event.text


@pytest.mark.parametrize(
    ("size", "is_told"), [(2, True), (VALUE_BYTES, True), (VALUE_BYTES + 1, False)]
)
def test_a_small_value_is_told_and_a_large_one_said_to_be_elsewhere(
    size: int, is_told: bool
) -> None:
    value = '"' + "x" * (size - 2) + '"'
    data = told(ending(Result(task(), Value(inline=value.encode())), None))["data"]
    assert ("value" in data) is is_told
    assert data["task"]["result"] == "/v1/tasks/t1/result"
    if is_told:
        assert data["value"] == json.loads(value)


@pytest.mark.parametrize(
    "value", [Value(ref="0" * 64), Value(inline=b"a,b", media_type="text/csv")], ids=str
)
def test_a_value_that_is_elsewhere_or_no_json_is_not_in_the_event(value: Value) -> None:
    data = told(ending(Result(task(), value), None))["data"]
    assert "value" not in data


def test_a_value_is_told_as_it_is_however_deep_it_lies() -> None:
    value = b"[" * 3000 + b"]" * 3000
    assert value.decode() in ending(Result(task(), Value(inline=value)), None).text


def test_whoever_wants_to_hear_of_an_end_gets_a_task_of_its_own() -> None:
    known = {"a": webhook(timeout_s=3), "b": webhook(events=["failed"]), "c": webhook()}
    news = deliveries(known, Result(task(request_id="r"), ONE), None, NOW)
    assert [body_of(new)["webhook"] for new in news] == ["a", "c"]
    assert [body_of(new)["id"] for new in news] == ["t1-a", "t1-c"]
    assert {body_of(new)["event"] for new in news} == {
        ending(Result(task(request_id="r"), ONE), None).text
    }
    first = news[0]
    assert (first.function, first.kind, first.pool) == (DELIVER, "data", "cpu")
    assert (first.parent_id, first.request_id) == ("t1", "r")
    assert (first.max_attempts, first.timeout_s) == (ATTEMPTS, 3 + GRACE_S)
    assert (first.created_at, first.available_at) == (NOW, NOW)


def test_a_delivery_holds_no_secret() -> None:
    (new,) = deliveries({"a": webhook()}, Result(task(), ONE), None, NOW)
    assert SECRET not in repr(new)
    assert "token" not in repr(new)


def test_a_ping_is_sent_once_and_each_is_another() -> None:
    first, second = (trial("ops", webhook(), NOW) for _ in range(2))
    event = json.loads(body_of(first)["event"])
    assert event == {"type": "ping", "timestamp": "2026-01-01T10:00:00.000Z", "data": {}}
    assert first.max_attempts == 1
    assert body_of(first)["id"].endswith("-ops")
    assert body_of(first)["id"] != body_of(second)["id"]


@pytest.mark.parametrize("name", ["ops", "a-b_c", "0"])
def test_ids_have_no_full_stop_which_parts_what_is_signed(name: str) -> None:
    assert "." not in body_of(trial(name, webhook(), NOW))["id"]
