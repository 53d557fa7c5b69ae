"""What waits is bounded, and so is what callers may ask for; a refusal leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Grow
from tests.acceptance.tree import CPU_ALONE, Tree, lent, project, until

WAITING = 5
FUNCTIONS = """
import skipper

@skipper.data(mode="task")
def small(text: str = "") -> int:
    return len(text)

@skipper.data(mode="task", priority=8)
def urgent(text: str = "") -> int:
    return len(text)

@skipper.data(mode="task")
def ticking() -> int:
    return 0

@skipper.data(mode="task")
def spawns(number: int) -> str:
    try:
        for _ in range(number):
            small.spawn(text="x", delay="1h")
    except skipper.UnavailableError as error:
        return str(error)
    return "all"

@skipper.data(mode="task", retries=1, backoff="5m")
def fails() -> None:
    raise ValueError("again")
"""
SETTINGS = f"""
[tasks]
waiting = {WAITING}
max_priority = 3
max_delay_days = 2
[storage]
inline_kb = 1
[schedules.tick]
function = "tasks.ticking"
cron = "0 0 29 2 *"
[run]
reload = false
"""
LATER = {"x-skipper-delay": "1h"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree in which five tasks of a function may wait."""
    folder = project(tmp_path_factory.mktemp("waiting"), SETTINGS, tasks=FUNCTIONS)
    with lent(Tree(folder, *CPU_ALONE)) as grown:
        yield grown.ready()
        assert "Traceback" not in grown.output
        grown.end()


@pytest.fixture(autouse=True)
def nothing_waits(tree: Tree) -> Iterator[None]:
    """Each test begins and ends with nothing that waits."""
    yield
    for state in ("queued", "retrying"):
        for task in tree.json(f"/v1/tasks?state={state}&limit=200")["items"]:
            tree.post(f"/v1/tasks/{task['id']}/cancel")


def later(tree: Tree, name: str = "tasks.small", **more: Any) -> httpx.Response:
    """Ask for a task that waits for an hour."""
    headers = {**LATER, **more.pop("headers", {})}
    return tree.post(f"/v1/functions/{name}/invoke", headers=headers, **more)


def fill(tree: Tree, name: str = "tasks.small") -> list[str]:
    """Have as many wait as may; their ids."""
    answers = [later(tree, name, json={}) for _ in range(WAITING)]
    assert [answer.status_code for answer in answers] == [202] * WAITING
    return [answer.json()["id"] for answer in answers]


def is_full(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 503
        and int(answer.headers["retry-after"]) >= 1
        and answer.json()["type"] == "/problems/queue-full"
        and "tasks.waiting" in answer.json()["detail"]
    )


def rows(tree: Tree) -> int:
    return len(tree.json("/v1/tasks?limit=200")["items"])


def blobs(tree: Tree) -> list[Path]:
    return [file for file in (tree.folder / ".skipper" / "blobs").rglob("*") if file.is_file()]


@pytest.mark.parametrize("size", [0, 100, 5000], ids=["empty", "inline", "in the store"])
def test_one_more_task_is_refused_and_leaves_no_row_and_no_blob(tree: Tree, size: int) -> None:
    fill(tree)
    before = rows(tree), blobs(tree)
    body = {"text": f"{size:x<{size}}"} if size else {}
    for headers in ({}, {"prefer": "wait=5"}, {"idempotency-key": f"new-{size}"}):
        assert is_full(later(tree, json=body, headers=headers))
    assert (rows(tree), blobs(tree)) == before
    assert tree.invoke("tasks.ticking", {}).status_code == 202  # another one's queue


def test_room_is_found_as_soon_as_one_waits_no_longer(tree: Tree) -> None:
    first, *_ = fill(tree)
    assert is_full(later(tree, json={}))
    assert tree.post(f"/v1/tasks/{first}/cancel").status_code == 200
    assert later(tree, json={}).status_code == 202
    assert is_full(later(tree, json={}))


def test_many_at_once_are_let_in_as_far_as_there_is_room(tree: Tree) -> None:
    together = threading.Barrier(20)

    def ask(number: int) -> int:
        together.wait(30)
        with httpx.Client(base_url=tree.url, timeout=60) as client:
            path = "/v1/functions/tasks.small/invoke"
            body = {"text": f"{number}" * (2000 if number % 2 else 1)}
            return client.post(path, headers=LATER, json=body).status_code

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, range(20)))
    assert set(found) == {202, 503}
    assert found.count(202) <= WAITING


def test_a_known_key_finds_its_task_though_there_is_no_room(tree: Tree) -> None:
    keyed = {"idempotency-key": "known"}
    body = {"text": "x" * 5000}
    first = later(tree, json=body, headers=keyed).json()["id"]
    assert later(tree, json={}).status_code == 202
    while later(tree, json={}).status_code == 202:
        pass
    assert later(tree, json=body, headers=keyed).json()["id"] == first
    assert later(tree, json={"text": "other"}, headers=keyed).status_code == 422


def test_no_way_into_the_queue_leads_past_its_bound(tree: Tree) -> None:
    ended = tree.submit("tasks.small")
    assert tree.result(ended) == 0
    fill(tree)
    assert is_full(tree.post(f"/v1/tasks/{ended}/retry"))
    assert "tasks.waiting" in tree.result(tree.submit("tasks.spawns", {"number": 1}))
    fill(tree, "tasks.ticking")
    before = rows(tree)
    assert is_full(tree.post("/v1/schedules/tick/run"))
    assert rows(tree) == before


def test_what_was_accepted_is_tried_again_however_many_wait(tree: Tree) -> None:
    task_id = tree.submit("tasks.fails")
    tree.wait_for_state(task_id, "retrying")
    for _ in range(WAITING - 1):
        assert later(tree, "tasks.fails").status_code == 202
    assert is_full(later(tree, "tasks.fails"))
    assert tree.task(task_id)["state"] == "retrying"


@pytest.mark.parametrize(("name", "most"), [("tasks.small", 3), ("tasks.urgent", 8)])
def test_a_caller_may_not_push_past_the_ceiling(tree: Tree, name: str, most: int) -> None:
    for priority in (most + 1, 10):
        answer = later(tree, name, headers={"x-skipper-priority": f"{priority}"})
        assert answer.status_code == 400
        assert "tasks.max_priority" in answer.json()["detail"]
    for priority in (most, 0, -10):
        answer = later(tree, name, headers={"x-skipper-priority": f"{priority}"})
        assert answer.json()["priority"] == priority


def test_a_caller_may_not_put_a_task_off_for_longer_than_is_allowed(tree: Tree) -> None:
    for delay in ("2d1s", "365d"):
        answer = later(tree, headers={"x-skipper-delay": delay})
        assert answer.status_code == 400
        assert "tasks.max_delay_days" in answer.json()["detail"]
    assert later(tree, headers={"x-skipper-delay": "2d"}).status_code == 202


def test_what_waits_and_what_may_is_told(tree: Tree) -> None:
    fill(tree)
    text = tree.get("/metrics").text
    assert f'skipper_tasks_waiting{{function="tasks.small"}} {WAITING}\n' in text
    assert f"skipper_tasks_waiting_limit {WAITING}\n" in text


def test_no_more_is_stored_than_may_be_and_no_result_is_lost(grow: Grow, tmp_path: Path) -> None:
    settings = "[tasks]\nstored_gb = 0.00002\n[storage]\ninline_kb = 1\n[run]\nreload = false\n"
    text = "import skipper\n@skipper.data(mode='task')\ndef twice(text: str) -> str:\n"
    tree = grow(
        project(tmp_path, settings, texts=text + "    return text + text\n"), *CPU_ALONE
    ).ready()
    task_id = tree.submit("texts.twice", {"text": "x" * 9_000})
    assert tree.result(task_id) == "x" * 18_000

    def refused() -> bool:
        answer = tree.invoke("texts.twice", {"text": "y" * 9_000})
        return answer.status_code == 503 and "tasks.stored_gb" in answer.json()["detail"]

    def retry() -> int:
        return tree.post(f"/v1/tasks/{task_id}/retry").status_code

    until(refused, what="a refusal")
    until(lambda: retry() == 503, what="a refusal of a retry")
    before = rows(tree), blobs(tree)
    assert refused()
    assert retry() == 503
    assert (rows(tree), blobs(tree)) == before
    assert tree.result(task_id) == "x" * 18_000
    tree.end()
