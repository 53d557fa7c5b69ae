"""A task's life as others see it: events, logs, and what becomes of both in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from skipper.client import Client, TaskEvent
from skipper.pool.processes.output import LINES, OVERHEAD
from tests.acceptance.conftest import PLAIN
from tests.acceptance.events import events_of
from tests.acceptance.tree import Tree, project, until

TOTAL = LINES.head + LINES.tail


# --- events ---


def test_a_life_is_told_in_order_and_goes_on_after_any_event(plain: Tree) -> None:
    task_id = plain.submit("talk.tries", {"succeed_at": 2})
    plain.ended(task_id)
    whole = events_of(plain, task_id)
    told = [f"{event.data.get('state', 'said')} {event.data['attempt']}" for event in whole]
    said = {(event.type, event.data["attempt"]) for event in whole}
    assert said >= {(kind, n) for kind in ("progress", "metric", "log") for n in (1, 2)}
    assert told == [
        *("queued 0", "running 1", "said 1", "said 1", "said 1", "retrying 1"),
        *("running 2", "said 2", "said 2", "said 2", "succeeded 2", "succeeded 2"),
    ]
    assert whole[5].data["error"]["detail"] == "RuntimeError: attempt 1 fails"
    assert whole[-1].data == plain.task(task_id)
    ids = [str(event.id) for event in whole]
    assert len(set(ids)) == len(ids)
    for place, id_ in enumerate(ids, 1):
        assert events_of(plain, task_id, after=id_) == whole[place:]


@pytest.mark.parametrize("id_", ["nonsense", "-1", "1" * 40])
def test_an_id_that_is_none_means_the_beginning(plain: Tree, id_: str) -> None:
    task_id = plain.submit("work.adds", {"x": 1})
    plain.ended(task_id)
    assert events_of(plain, task_id, after=id_) == events_of(plain, task_id)


def test_once_all_was_told_a_browser_is_told_not_to_come_again(plain: Tree) -> None:
    task_id = plain.submit("work.adds", {"x": 1})
    plain.ended(task_id)
    headers = {"Last-Event-ID": str(events_of(plain, task_id)[-1].id)}
    assert plain.get(f"/v1/tasks/{task_id}/events", headers=headers).status_code == 204


def test_logs_are_told_by_attempt(plain: Tree) -> None:
    task_id = plain.submit("talk.tries", {"succeed_at": 2})
    plain.ended(task_id)
    attempts = plain.json(f"/v1/tasks/{task_id}/attempts")["items"]
    texts = [
        [line["text"] for line in plain.json(attempt["logs"])["items"]] for attempt in attempts
    ]
    assert texts == [["attempt 1"], ["attempt 2"]]
    both = plain.json(f"/v1/tasks/{task_id}/logs")["items"]
    assert [(line["attempt"], line["line"]) for line in both] == [(1, 1), (2, 1)]


def test_logs_are_read_page_by_page(plain: Tree) -> None:
    task_id = plain.submit("talk.floods", {"lines": 25})
    plain.ended(task_id)
    with Client(plain.url) as client:
        whole = client.task(task_id).logs()
    pages, cursor = [], 0
    while cursor is not None:
        page = plain.json(f"/v1/tasks/{task_id}/logs", params={"limit": 10, "cursor": cursor})
        pages.append(page["items"])
        cursor = page["next"]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [line for page in pages for line in page] == whole


# --- too much ---


class Watch:
    """The most memory that a process has had, and how long a bystander waited at most."""

    def __init__(self, tree: Tree, pid: int) -> None:
        self._tree, self._process = tree, psutil.Process(pid)
        self.before = self.peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)
            assert self._tree.value("bad.bystander")["pid"]

    @property
    def growth_mib(self) -> float:
        return (self.peak - self.before) / (1 << 20)


def test_of_a_flood_of_lines_the_first_and_the_last_are_kept(plain: Tree) -> None:
    plain.value("bad.bystander")
    with Watch(plain, plain.pids()["cpu"]) as watch:
        task_id = plain.submit("talk.floods", {"lines": 200_000})
        assert plain.result(task_id) == 200_000
    with Client(plain.url) as client:
        lines = client.task(task_id).logs()
    numbers = [line["line"] for line in lines]
    assert sum(OVERHEAD + len(line["text"]) for line in lines) <= 1.1 * TOTAL
    assert all(line["text"] == f"line {line['line'] - 1} " for line in lines)
    head = LINES.head // (OVERHEAD + 15)
    assert numbers[:head] == list(range(1, head + 1))
    assert numbers[-head:] == list(range(200_001 - head, 200_001))
    assert sum(line.get("dropped", 0) for line in lines) == 200_000 - len(lines)
    assert watch.growth_mib < 32


def test_a_line_without_an_end_is_cut_and_bounded(plain: Tree) -> None:
    with Watch(plain, plain.pids()["cpu"]) as watch:
        task_id = plain.submit("talk.pours", {"mib": 100})
        assert plain.result(task_id) == 100
    page = plain.json(f"/v1/tasks/{task_id}/logs")
    size = sum(len(line["text"]) for line in page["items"])
    assert 0.9 * TOTAL < size <= 1.1 * TOTAL
    assert page["dropped"] * (16 << 10) + size == pytest.approx(100 << 20, rel=0.02)
    assert watch.growth_mib < 32


def test_progress_is_seen_however_much_was_said_before(plain: Tree) -> None:
    task_id = plain.submit("talk.reports", {"number": 5_000})
    assert plain.result(task_id) == 5_000
    assert plain.task(task_id)["progress"] == {"done": 5_000, "total": 5_000}
    points = [event for event in events_of(plain, task_id) if event.type in ("progress", "metric")]
    assert len(points) + sum(event.data.get("dropped", 0) for event in points) == 10_000
    assert [event.data["done"] for event in points if event.type == "progress"][:2] == [1, 2]


# --- through failures ---

EXPIRING = "[retention]\nresults_days = 0.00001\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree whose parts may be killed, and that forgets a task a second after its end."""
    functions = {name: (PLAIN / f"functions/{name}.py").read_text() for name in ("talk", "bodies")}
    folder = project(tmp_path_factory.mktemp("own") / "project", EXPIRING, **functions)
    tree = Tree(folder)
    try:
        yield tree.ready()
        tree.end()
    finally:
        tree.close()


def restart(tree: Tree, name: str) -> None:
    """Kill a part, and wait for its successor."""
    pid = tree.pids()[name]
    os.kill(pid, signal.SIGKILL)
    until(lambda: tree.pids().get(name) not in (pid, None), what=f"another {name}")
    until(tree.is_ready, what="readiness")


def test_a_stream_outlives_the_gateway_and_nothing_is_told_twice_or_missed(
    own: Tree, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task_id = own.submit("talk.steps", {"gate": str(gate), "number": 4})
    seen: list[TaskEvent] = []

    def read() -> None:
        with Client(own.url) as client:
            seen.extend(client.task(task_id).events())

    command = [sys.executable, "-m", "skipper", "tasks", "watch", task_id, "--url", own.url]
    watching = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own.environment()
    )
    reader = threading.Thread(target=read)
    reader.start()
    for step in range(4):
        Path(f"{gate}-{step}").touch()
        reached = {"done": step + 1, "total": 4}
        until(lambda reached=reached: own.task(task_id)["progress"] == reached)  # type: ignore[misc]  # binds the loop's value
        if step < 2:
            restart(own, "gateway")
    reader.join(60)
    assert seen == [
        TaskEvent(id=str(event.id), type=event.type, data=event.data)
        for event in events_of(own, task_id)
    ]
    told = [event.data["done"] for event in seen if event.type == "progress"]
    assert told == [1, 2, 3, 4]
    out, err = watching.communicate(timeout=60)
    assert (watching.returncode, out) == (0, "4\n")
    assert [line for line in err.splitlines() if line.startswith("step")] == [
        f"step {n}" for n in range(4)
    ]


def test_what_has_expired_is_gone_and_what_never_was_is_not_found(own: Tree) -> None:
    task_id = own.submit("bodies.echo", {"value": "x" * 100_000})
    own.ended(task_id)
    blobs = own.folder / ".skipper" / "blobs"
    assert list(blobs.glob("*/*"))
    time.sleep(1.0)  # the retention of this tree
    restart(own, "scheduler")  # which begins with what has expired
    until(lambda: own.get(f"/v1/tasks/{task_id}").status_code == 410, what="its expiry")
    for verb, path in ROUTES:
        assert own.http.request(verb, f"/v1/tasks/{task_id}{path}").status_code == 410, path
        assert own.http.request(verb, f"/v1/tasks/{'0' * 26}{path}").status_code == 404, path
    assert own.json("/v1/tasks")["items"] == []


ROUTES = [
    *(("GET", path) for path in ("", "/result", "/events", "/logs", "/attempts")),
    *(("POST", path) for path in ("/cancel", "/retry")),
]
