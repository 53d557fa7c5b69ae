"""Ended tasks are told to a real receiver: signed, filtered, again until it has heard."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from skipper_webhooks import verify
from tests.acceptance.tree import Json, Tree, lent, project, until

SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()
TOKEN = "t0ken-in-the-path"
FUNCTIONS = """
import skipper

@skipper.data
def good(x: int) -> dict[str, int]:
    return {"x": x}

@skipper.data
def bad(x: int) -> None:
    raise ValueError(f"no {x}")
"""


class Heard(NamedTuple):
    """A request as it came, and what it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def task_id(self) -> str:
        return str(self.event["data"].get("task", {}).get("id"))


class Receiver(ThreadingHTTPServer):
    """Answers 500 as often as it is told to, and 204 otherwise."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[Heard] = []
        self.failures = 0
        self.lock = threading.Lock()

    def of(self, task_id: str, status: int = 204) -> list[Heard]:
        """What it has heard of a task, in the order it came."""
        told = [each for each in self.heard if each.task_id == task_id and each.status == status]
        return sorted(told, key=lambda each: each.path)

    def waits_for(self, task_id: str, count: int) -> list[Heard]:
        return until(
            lambda: told if len(told := self.of(task_id)) >= count else [],
            what=f"{count} events of {task_id}",
        )


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            status = 500 if self.server.failures else 204
            self.server.failures = max(0, self.server.failures - 1)
            self.server.heard.append(Heard(self.path, dict(self.headers), body, status))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def toml(port: int) -> str:
    return f"""
[run]
reload = false

[webhooks.all]
url = "http://127.0.0.1:{port}/all/{TOKEN}"
secret = "{SECRET}"
functions = ["told.*"]
allow_private = true

[webhooks.bad]
url = "http://localhost:{port}/bad/{TOKEN}"
secret = "{SECRET}"
events = ["failed", "crashed"]
allow_private = true

[webhooks.refused]
url = "https://127.0.0.1:{port}/refused"
secret = "{SECRET}"
functions = ["nothing.*"]
"""


@pytest.fixture(scope="module")
def tree(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A project with webhooks, two of which lead here."""
    folder = project(
        tmp_path_factory.mktemp("webhooks") / "project",
        toml(receiver.server_address[1]),
        told=FUNCTIONS,
        silent=FUNCTIONS,
    )
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


def deliveries(tree: Tree) -> list[Json]:
    params = {"function": "webhooks._deliver", "limit": "200"}
    items: list[Json] = tree.json("/v1/tasks", params=params)["items"]
    return items


def wait_for_deliveries(tree: Tree) -> None:
    """Wait until every delivery that there is has arrived."""
    until(
        lambda: all(task["state"] == "succeeded" for task in deliveries(tree)),
        what="the end of all deliveries",
    )


def test_exactly_the_ends_that_were_asked_for_are_told(tree: Tree, receiver: Receiver) -> None:
    ids = {name: tree.submit(name, {"x": 1}) for name in ("told.good", "told.bad")}
    silent = {name: tree.submit(name, {"x": 1}) for name in ("silent.good", "silent.bad")}
    (good,) = receiver.waits_for(ids["told.good"], 1)
    of_all, of_bad = receiver.waits_for(ids["told.bad"], 2)
    receiver.waits_for(silent["silent.bad"], 1)
    wait_for_deliveries(tree)
    assert receiver.of(silent["silent.good"]) == []
    paths = [each.path for each in receiver.heard]
    assert sorted(paths) == [f"/all/{TOKEN}"] * 2 + [f"/bad/{TOKEN}"] * 2
    assert good.event["type"] == "task.succeeded"
    assert good.event["data"]["value"] == {"x": 1}
    assert of_all.event == of_bad.event
    assert of_all.event["type"] == "task.failed"
    assert "value" not in of_all.event["data"]
    for heard in (good, of_all, of_bad):
        assert verify(heard.body, heard.headers, SECRET).startswith(heard.task_id)
        task = tree.task(heard.task_id)
        task["error"] = task["error"] and {
            k: v for k, v in task["error"].items() if k != "traceback"
        }
        assert heard.event["data"]["task"] == task
        assert heard.event["timestamp"] == task["finished_at"]


def test_an_event_comes_again_until_it_is_heard(tree: Tree, receiver: Receiver) -> None:
    wait_for_deliveries(tree)
    with receiver.lock:
        receiver.failures = 1
    task_id = tree.submit("told.good", {"x": 2})
    (heard,) = receiver.waits_for(task_id, 1)
    (missed,) = receiver.of(task_id, status=500)
    assert heard.body == missed.body
    assert verify(heard.body, heard.headers, SECRET) == verify(missed.body, missed.headers, SECRET)
    wait_for_deliveries(tree)
    (delivery,) = [task for task in deliveries(tree) if task["parent_id"] == task_id]
    attempts = tree.json(f"/v1/tasks/{delivery['id']}/attempts")["items"]
    assert [attempt["outcome"] for attempt in attempts] == ["failed", "succeeded"]
    assert "answered 500" in attempts[0]["error"]["detail"]


def test_an_end_is_told_once_though_the_scheduler_is_killed(tree: Tree, receiver: Receiver) -> None:
    before = tree.pids()["scheduler"]
    ids = [tree.submit("told.good", {"x": n}) for n in range(5)]
    os.kill(before, signal.SIGKILL)
    ids += [tree.submit("told.good", {"x": n}) for n in range(5)]
    for task_id in ids:
        receiver.waits_for(task_id, 1)
    wait_for_deliveries(tree)
    assert tree.pids()["scheduler"] != before
    assert [len(receiver.of(task_id)) for task_id in ids] == [1] * len(ids)


def test_a_ping_says_whether_a_webhook_works(tree: Tree, receiver: Receiver) -> None:
    names = [item["name"] for item in tree.json("/v1/webhooks")["items"]]
    assert names == ["all", "bad", "refused"]
    sent = tree.post("/v1/webhooks/all/test")
    assert sent.status_code == 202
    assert tree.ended(sent.json()["id"])["state"] == "succeeded"
    assert receiver.heard[-1].event["type"] == "ping"
    count = len(receiver.heard)
    refused = tree.ended(tree.post("/v1/webhooks/refused/test").json()["id"])
    assert refused["state"] == "failed"
    assert "127.0.0.1, a private address; set allow_private" in refused["error"]["detail"]
    assert len(receiver.heard) == count


def test_nobody_outside_can_have_anything_signed(tree: Tree) -> None:
    body = {"webhook": "all", "id": "x", "event": "{}"}
    for prefer in ("", "respond-async"):
        assert tree.invoke("webhooks._deliver", body, prefer=prefer).status_code == 404
    assert tree.function("webhooks._deliver") is None
    assert "webhooks._deliver" not in tree.get("/openapi.json").text


def test_secrets_are_in_no_file_that_stays_and_in_no_answer(tree: Tree) -> None:
    told = [tree.get(path).text for path in ("/v1/tasks", "/v1/webhooks", "/v1/pools", "/metrics")]
    told += [tree.get(f"/v1/tasks/{task['id']}/attempts").text for task in deliveries(tree)]
    files = [path for path in (tree.folder / ".skipper").rglob("*") if path.is_file()]
    assert any(path.name.startswith("ledger.db") for path in files)
    told += [path.read_bytes().decode("latin-1") for path in files] + [tree.output]
    for text in told:
        assert SECRET not in text
        assert SECRET.removeprefix("whsec_") not in text
        assert TOKEN not in text
