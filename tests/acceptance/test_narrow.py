"""A tree with one slot of each kind, short queues, small limits and API keys."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.conftest import PLAIN
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Gate, Tree, lent, project, until

KEY = "correct-horse-battery"
TOML = f"""
[gateway]
keys = ["another-key-of-mine", "{KEY}"]
max_body_mb = 0.01

[storage]
inline_kb = 1

[pools.cpu]
slots = 1
task_slots = 1
queue = 2

[pools.gpu]
slots = 1
task_slots = 1
"""
FILES = ("hold", "nest", "bodies", "streams", "meet")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    files = {stem: (PLAIN / "functions" / f"{stem}.py").read_text() for stem in FILES}
    folder = project(tmp_path_factory.mktemp("narrow"), TOML, **files)
    with lent(Tree(folder)) as tree:
        tree.key = KEY
        yield tree.ready()
        tree.end()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}])
def test_without_a_key_nothing_is_told(narrow: Tree, headers: dict[str, str]) -> None:
    narrow.http.headers.pop("Authorization")
    try:
        for path in ("/v1/functions", "/v1/tasks", "/v1/pools", "/metrics", "/docs"):
            response = narrow.get(path, headers=headers)
            problem(response, 401, "unauthorised")
            assert response.headers["www-authenticate"] == "Bearer"
        call = narrow.post("/v1/functions/bodies.add/invoke", json={"x": 1}, headers=headers)
        problem(call, 401, "unauthorised")
        for path in ("/livez", "/readyz"):
            assert narrow.get(path, headers=headers).status_code == 200
    finally:
        narrow.connect(narrow.url)


def test_any_of_the_keys_opens(narrow: Tree) -> None:
    for headers in ({"Authorization": "Bearer another-key-of-mine"}, {"X-API-Key": KEY}):
        assert narrow.get("/v1/functions", headers=headers).status_code == 200


def test_keys_are_not_told(narrow: Tree) -> None:
    for text in (narrow.output, narrow.get("/v1/functions").text, narrow.get("/metrics").text):
        assert KEY not in text


def test_a_full_queue_refuses_and_says_when_to_come_again(narrow: Tree, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with ThreadPoolExecutor(3) as callers:
        held = [callers.submit(narrow.value, "hold.direct", gate.body)]
        gate.wait_for()
        held += [callers.submit(narrow.value, "hold.direct", gate.body) for _ in range(2)]
        until(lambda: narrow.pool("cpu")["queued"] == 2, what="a full queue")
        response = narrow.invoke("hold.direct", gate.body)
        problem(response, 503, "queue-full")
        assert int(response.headers["retry-after"]) >= 1
        gate.open()
        assert all(isinstance(call.result(), int) for call in held)
    assert narrow.value("bodies.add", {"x": 1}) == 11


def test_tasks_are_accepted_while_all_slots_are_busy(narrow: Tree, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(narrow.value, "hold.direct", gate.body)
        gate.wait_for()
        task_id = narrow.submit("hold.direct", gate.body)
        assert narrow.wait_for_state(task_id, "running")
        gate.wait_for(2)
        gate.open()
        assert call.result() != narrow.result(task_id)


def test_tasks_wait_for_their_slot_and_all_come_to_it(narrow: Tree, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    tasks = [narrow.submit("hold.task", gate.body) for _ in range(12)]
    gate.wait_for()
    states = [narrow.task(task_id)["state"] for task_id in tasks]
    assert states.count("running") == 1
    assert states.count("queued") == 11
    gate.open()
    assert [narrow.result(task_id) for task_id in tasks] == ["through"] * 12


def test_the_most_urgent_of_many_that_wait_starts_next(narrow: Tree, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    first = narrow.submit("hold.task", gate.body)
    gate.wait_for()
    others = [narrow.submit("bodies.size", {"text": "x"}) for _ in range(50)]
    urgent = narrow.submit("bodies.add", {"x": 1}, x_skipper_priority="5")
    least = narrow.submit("bodies.add", {"x": 2}, x_skipper_priority="-5")
    queued = {"pool": "cpu", "state": "queued", "limit": 100}
    until(lambda: len(narrow.json("/v1/tasks", params=queued)["items"]) == 52, what="a full line")
    gate.open()
    for task_id in (first, *others, urgent, least):
        narrow.ended(task_id)
    ends = {task_id: ended_at(narrow, task_id) for task_id in (*others, urgent, least)}
    assert ends[urgent] == min(ends.values())
    assert ends[least] == max(ends.values())


def test_functions_take_turns_though_one_has_many_tasks_waiting(
    narrow: Tree, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    narrow.submit("hold.task", gate.body)
    gate.wait_for()
    many = [narrow.submit("bodies.size", {"text": "x"}) for _ in range(30)]
    few = [narrow.submit("bodies.add", {"x": 1}) for _ in range(5)]
    gate.open()
    for task_id in (*many, *few):
        narrow.ended(task_id)
    ends_of_many = sorted(ended_at(narrow, task_id) for task_id in many)
    ends_of_few = sorted(ended_at(narrow, task_id) for task_id in few)
    for turn in range(len(few) - 1):  # to the millisecond, so two may end at once
        assert ends_of_few[turn] <= ends_of_many[turn + 1]
        assert ends_of_many[turn] <= ends_of_few[turn + 1]


def ended_at(tree: Tree, task_id: str) -> str:
    """When a task ended: with one slot, in the order in which they had it."""
    return str(tree.task(task_id)["finished_at"])


def test_a_child_is_as_urgent_as_the_task_that_waits_for_it(narrow: Tree) -> None:
    parent = narrow.submit("nest.child", {}, x_skipper_priority="4")
    assert narrow.result(parent) == {"learned": 7}
    items = narrow.json("/v1/tasks", params={"function": "nest.learn"})["items"]
    (child,) = (task for task in items if task["parent_id"] == parent)
    assert child["priority"] == 4


@pytest.mark.parametrize(
    ("name", "body", "value"),
    [
        ("nest.remote", {"x": 1}, 102),
        ("nest.aremote", {"x": 1}, 102),
        ("nest.deep", {"left": 6}, 6),
        ("nest.fan_out", {"items": [1, 2, 3]}, [100, 200, 300]),
        ("nest.child", {}, {"learned": 7}),
        ("nest.parent", {}, [{"learned": 1}, 2]),
    ],
)
def test_nested_calls_do_not_stop_each_other_for_want_of_slots(
    narrow: Tree, name: str, body: object, value: object
) -> None:
    if name != "nest.parent":
        assert narrow.value(name, body) == value
    assert narrow.result(narrow.submit(name, body)) == value


def test_parents_that_wait_do_not_crowd_out_their_children(narrow: Tree) -> None:
    tasks = [narrow.submit("nest.parent") for _ in range(6)]
    assert [narrow.result(task_id) for task_id in tasks] == [[{"learned": 1}, 2]] * 6


def test_nested_calls_of_many_callers_all_end(narrow: Tree) -> None:
    with ThreadPoolExecutor(2) as callers:
        answers = callers.map(lambda x: narrow.value("nest.remote", {"x": x}), range(8))
        assert list(answers) == [x + 1 + x * 100 for x in range(8)]


def test_a_busy_async_instance_takes_more_calls(narrow: Tree) -> None:
    with ThreadPoolExecutor(2) as callers:
        pids = list(callers.map(lambda _: narrow.value("meet.meet", {"others": 2}), range(2)))
    assert len(set(pids)) == 1


def test_the_body_limit_is_the_settings_own(narrow: Tree) -> None:
    limit = int(0.01 * (1 << 20))
    assert narrow.value("bodies.size", {"text": "x" * (limit - 50)}) == limit - 50
    problem(narrow.invoke("bodies.size", {"text": "x" * limit}), 413, "body-too-large")


def test_inputs_and_results_above_the_threshold_lie_in_the_store(narrow: Tree) -> None:
    text = "y" * 5000
    assert narrow.result(narrow.submit("bodies.echo", {"value": text})) == text
    assert any(file.is_file() for file in (narrow.folder / ".skipper/blobs").rglob("*"))
