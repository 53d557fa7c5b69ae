"""What functions may be, take and return, and how they call each other."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.events import sse
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree, until

POINT = {"x": 1.0, "y": 0.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("returns.nothing", None),
        ("returns.number", 1.5),
        ("returns.text", "naïve ☃"),
        ("returns.items", [3, 1, 2]),
        ("returns.table", {"a": [True, False]}),
        ("returns.model", POINT),
        ("returns.models", [POINT, {"x": 2.0, "y": 3.0}]),
        ("returns.record", {"left": 1, "right": "one"}),
        ("returns.unannotated", {"model": POINT, "record": {"left": 2, "right": "two"}}),
        ("returns.mixed", {"none": None, "nested": [{"left": 3, "right": "three"}, [4, "four"]]}),
        ("arrays.vector", [0.0, 1.0, 2.0]),
        ("arrays.declared", [[1, 0], [0, 1]]),
        ("arrays.scalar", 0.5),
        ("arrays.inside", {"mean": 1.5, "rows": [[1, 2]]}),
    ],
)
def test_each_kind_of_value_answers_its_json(plain: Tree, name: str, value: Any) -> None:
    response = plain.invoke(name, {})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == value
    assert plain.result(plain.submit(name)) == value


def test_each_instance_has_random_numbers_of_its_own(plain: Tree) -> None:
    tasks = [plain.submit("arrays.chance") for _ in range(4)]
    values = {plain.result(task) for task in tasks} | {plain.value("arrays.chance")}
    assert len(values) == 5


@pytest.mark.parametrize(
    ("name", "body", "value"),
    [
        ("bodies.add", {"x": 1, "y": 2}, 3),
        ("bodies.add", {"x": 1}, 11),
        ("bodies.add", {"x": "1"}, 11),
        ("bodies.price", {"rooms": 2, "area": 3}, 6),
        ("bodies.price", {"rooms": 2}, 100),
        ("bodies.both", {"house": {"rooms": 3}, "factor": 2}, 6),
        ("bodies.size", None, 0),
        ("bodies.size", {}, 0),
        ("bodies.size", {"text": "☃"}, 1),
        ("bodies.echo", {"value": {"deep": [None, {"er": "é"}]}}, {"deep": [None, {"er": "é"}]}),
    ],
)
def test_a_body_is_one_model_or_a_member_per_parameter(
    plain: Tree, name: str, body: Any, value: Any
) -> None:
    assert plain.value(name, body) == value


def test_a_large_value_comes_back_whole(plain: Tree) -> None:
    assert len(plain.value("bodies.blow_up", {"times": 20 << 20})) == 20 << 20
    assert plain.value("bodies.size", {"text": "after"}) == 5


def test_a_class_is_set_up_once_and_keeps_its_state(plain: Tree) -> None:
    answers = [plain.value("state.Counter", {"step": 2}) for _ in range(5)]
    assert {answer["set_up"] for answer in answers} == {1}
    assert len({answer["pid"] for answer in answers}) == 1
    first = answers[0]["calls"]
    assert [answer["calls"] for answer in answers] == [first + 2 * n for n in range(5)]


# --- streams ---


def test_a_generator_answers_a_plain_call_with_an_array(plain: Tree) -> None:
    assert plain.value("streams.count", {"to": 3}) == [0, 1, 2]
    assert plain.value("streams.count", {"to": 0}) == []
    assert plain.value("streams.words") == [{"text": word} for word in ("so", "it", "goes")]
    assert plain.result(plain.submit("streams.count", {"to": 2})) == [0, 1]


def stream(tree: Tree, name: str, body: Any, accept: str) -> Any:
    headers = {"Accept": accept}
    return tree.http.stream("POST", f"/v1/functions/{name}/invoke", json=body, headers=headers)


@pytest.mark.parametrize(
    ("name", "body", "items"),
    [
        ("streams.count", {"to": 3}, [0, 1, 2]),
        ("streams.count", {"to": 0}, []),
        ("streams.words", {"text": "a b"}, [{"text": "a"}, {"text": "b"}]),
    ],
)
def test_a_generator_streams_events_and_lines(
    plain: Tree, name: str, body: Any, items: list[Any]
) -> None:
    with stream(plain, name, body, "text/event-stream") as response:
        events = list(sse(response))
    assert [event.data for event in events if event.type == "item"] == items
    assert [event.type for event in events] == ["item"] * len(items) + ["done"]
    with stream(plain, name, body, "application/jsonl") as response:
        assert response.headers["content-type"] == "application/jsonl"
        assert [json.loads(line) for line in response.iter_lines()] == items


def test_a_stream_that_breaks_ends_with_the_problem(plain: Tree) -> None:
    with stream(plain, "streams.breaks", {}, "text/event-stream") as response:
        item, error = sse(response)
    assert (item.type, item.data) == ("item", 1)
    assert (error.type, error.data["detail"]) == ("error", "ValueError: no second item")
    with stream(plain, "streams.breaks", {}, "application/x-ndjson") as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    assert lines[0] == 1
    assert lines[1]["error"]["status"] == 500
    assert plain.invoke("streams.breaks").status_code == 500


def test_a_stream_with_a_wrong_body_is_refused_before_it_begins(plain: Tree) -> None:
    with stream(plain, "streams.count", {"to": "three"}, "text/event-stream") as response:
        response.read()
        told = problem(response, 422, "invalid-input")
    assert told["errors"][0]["pointer"] == "/to"


def test_a_stream_names_the_code_that_serves_it(plain: Tree) -> None:
    with stream(plain, "streams.count", {"to": 2}, "text/event-stream") as response:
        assert response.headers["x-skipper-code"] == plain.function("streams.count")["code"]


def test_a_stream_that_nobody_reads_stops_and_one_that_is_left_is_closed(
    plain: Tree, tmp_path: Path
) -> None:
    note, items = tmp_path / "made", 2000
    closed = note.with_name("made.closed")
    body = {"items": items, "size": 1 << 17, "note": str(note)}

    def stands_still() -> bool:
        made = note.read_text()
        time.sleep(0.2)  # a stream that goes on makes hundreds of items in this time
        return made != "" and note.read_text() == made

    with stream(plain, "streams.heavy", body, "application/jsonl") as response:
        chunks = response.iter_bytes()
        assert next(chunks)
        until(stands_still, what="a stream that stands still")
        assert int(note.read_text()) < items / 2
        assert not closed.exists()
    until(closed.exists, what="the end of a stream whose caller has left")
    assert int(note.read_text()) < items / 2
    until(lambda: plain.pool("cpu")["busy"] == 0, what="its slot")


def test_a_stream_names_the_model_that_serves_it(plain: Tree) -> None:
    plain.result(plain.submit("lines.train", {"slope": 2}))
    with stream(plain, "lines.predict_all", {"xs": [1, 2]}, "application/jsonl") as response:
        assert response.headers["x-skipper-model"].startswith("line@")
        assert [json.loads(line) for line in response.iter_lines()] == [2, 4]


# --- batches ---


def test_of_many_items_each_is_answered_for_itself(plain: Tree) -> None:
    items = {"items": [{"x": 2}, {"x": 3}, {"x": "?"}, {"x": 4}]}
    first, odd, wrong, last = plain.value("batches.halves", items)["items"]
    assert (first, last) == (1, 2)
    assert "3 is odd" in odd["error"]["detail"]
    assert wrong["error"]["errors"][0]["pointer"] == "/x"
    assert plain.value("batches.halves", {"items": []}) == {"items": []}
    assert plain.invoke("batches.halves", {"x": 3}).status_code == 500


def test_a_batch_may_be_a_task(plain: Tree) -> None:
    items = {"items": [{"x": 2}, {"x": 4}]}
    assert plain.result(plain.submit("batches.halves", items)) == {"items": [1, 2]}
    assert plain.result(plain.submit("batches.halves", {"x": 6})) == 3


def test_a_twin_runs_in_the_place_of_a_function_of_single_items(plain: Tree) -> None:
    assert plain.value("batches.double", {"x": 4}) == 8
    assert plain.value("batches.double", {"items": [{"x": 1}, {"x": 2}]}) == {"items": [2, 4]}


# --- how long instances live ---


def test_an_instance_that_is_not_called_goes_and_the_next_call_has_another(plain: Tree) -> None:
    first = plain.value("state.short_lived")
    until(lambda: not plain.instances("state.short_lived"), what="the end of an idle instance")
    second = plain.value("state.short_lived")
    assert first != second
    until(lambda: not plain.instances("state.short_lived"), what="the end of the next")


def test_instances_are_recycled_under_load_without_a_failed_call(plain: Tree) -> None:
    pids: set[int] = set()
    with ThreadPoolExecutor(3) as callers:

        def call_on() -> bool:  # a worn instance serves on until the next one is ready
            pids.update(callers.map(lambda _: plain.value("state.recycled"), range(150)))
            return len(pids) > 3

        until(call_on, what="a third change of instances")
    until(lambda: len(plain.instances("state.recycled")) <= 2, what="the end of worn instances")


# --- quick calls ---


def test_calls_that_lie_ready_where_an_instance_dies_run_once(plain: Tree, tmp_path: Path) -> None:
    file, kills = tmp_path / "runs", 10

    def call(number: int) -> int:
        body = {"file": str(file), "nonce": f"call {number}"}
        return plain.invoke("once.notes", body).status_code

    answers: list[int] = []
    with ThreadPoolExecutor(8) as callers:
        answers += callers.map(call, range(300))  # quick, as its host has learned by now
        for n in range(1, kills + 1):
            calls = [callers.submit(call, number) for number in range(300 * n, 300 * n + 300)]
            until(lambda calls=calls: calls[150].done())  # type: ignore[misc]  # binds the loop's value
            os.kill(plain.instances("once.notes").pop(), signal.SIGKILL)
            answers += [each.result() for each in calls]
    runs = Counter(file.read_text().splitlines())
    twice = {nonce: answers[int(nonce.split()[1])] for nonce, n in runs.items() if n > 1}
    assert not twice, "and how they were answered"
    assert set(answers) <= {200, 502}
    assert all(runs[f"call {number}"] for number, status in enumerate(answers) if status == 200)
    assert 0 < answers.count(502) <= kills, "of each instance that died, the call that it ran"


# --- async def ---


def test_calls_of_an_async_function_share_an_instance(plain: Tree) -> None:
    with ThreadPoolExecutor(10) as callers:
        pids = list(callers.map(lambda _: plain.value("meet.meet", {"others": 10}), range(10)))
    assert len(set(pids)) == 1


# --- functions that call functions ---


@pytest.mark.parametrize(
    ("name", "body", "value"),
    [
        ("nest.local", {"x": 1}, 2),
        ("nest.remote", {"x": 1}, 102),
        ("nest.back", {"x": 1}, 2),
        ("nest.aremote", {"x": 1}, 102),
        ("nest.fan_out", {"items": [3, 1, 2]}, [300, 100, 200]),
        ("nest.child", {}, {"learned": 7}),
        ("nest.deep", {"left": 5}, 5),
        ("nest.catches", {}, "FunctionError: ValueError: inner failure"),
        ("nest.unknown", {}, "there is no function 'nest._ghost'"),
    ],
)
def test_functions_call_functions_wherever_they_run(
    plain: Tree, name: str, body: Any, value: Any
) -> None:
    assert plain.value(name, body) == value
    assert plain.result(plain.submit(name, body)) == value


def test_an_inner_call_with_a_wrong_body_says_what_is_wrong(plain: Tree) -> None:
    assert "/x" in plain.value("nest.wrong_body")


def test_a_spawned_task_is_one_like_any_other(plain: Tree) -> None:
    answer = plain.value("nest.spawn", {"x": 1})
    assert answer["value"] == 2
    assert plain.task(answer["id"])["state"] == "succeeded"


def test_training_called_by_training_is_a_child_task(plain: Tree) -> None:
    task_id = plain.submit("nest.parent", x_request_id="family")
    assert plain.result(task_id) == [{"learned": 1}, 2]
    tasks = plain.json("/v1/tasks", params={"function": "nest.learn"})["items"]
    (child,) = (task for task in tasks if task["parent_id"] == task_id)
    assert child["request_id"] == "family"


def test_a_call_within_a_call_ends_with_it_and_holds_no_slot(plain: Tree) -> None:
    problem(plain.invoke("nest.impatient"), 504, "deadline-passed")
    until(lambda: plain.pool("cpu")["busy"] == 0, what="the slots of both")
    assert plain.value("nest.naps", {"seconds": 0}) > 0


def test_calls_that_go_too_deep_are_refused(plain: Tree) -> None:
    response = plain.invoke("nest.deep", {"left": 20})
    assert response.status_code == 500, response.text
    assert "deep" in response.json()["detail"]
    assert plain.value("nest.deep", {"left": 1}) == 1


def test_the_death_of_a_batch_is_told_to_all_of_it_and_the_next_is_served(plain: Tree) -> None:
    with ThreadPoolExecutor(4) as callers:
        bodies = [{"x": x} for x in (0, 1, -1, 2)]
        answers = list(callers.map(lambda body: plain.invoke("batches.fragile", body), bodies))
    assert [answer.status_code for answer in answers] == [502] * 4
    assert all("code 5" in answer.json()["detail"] for answer in answers)
    with ThreadPoolExecutor(4) as callers:
        values = list(callers.map(lambda x: plain.value("batches.fragile", {"x": x}), range(4)))
    assert values == [0, 2, 4, 6]
