"""The audit of a running tree: who changed what stands there, and nothing that opens anything."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project, until
from tests.security.conftest import Connect

KEYS = ("3b0arnnc3gjk0ckto7avdbu64t", "9f1jeg4p1re24u0de6tube56d6")
TOML = f"""
[gateway]
keys = {json.dumps(KEYS)}
trusted_proxies = ["127.0.0.1"]
workers = 2

[log]
audit = "all"

[schedules.nightly]
function = "f.train"
cron = "0 3 * * *"
"""
FUNCTIONS = """
import skipper

@skipper.inference
def double(x: int) -> int:
    return 2 * x

@skipper.inference
def fails() -> int:
    raise ValueError("no")

@skipper.training
def train() -> int:
    return 1
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("audited"), TOML, f=FUNCTIONS)
    tree = Tree(folder, *CPU_ALONE)
    tree.key = KEYS[0]
    with lent(tree):
        tree.ready()
        tree.wait_for_functions()
        yield tree
        tree.end()


def lines(tree: Tree) -> list[dict[str, Any]]:
    """The audit so far, in the order of its times."""
    found = [
        json.loads(line)
        for file in (tree.folder / ".skipper" / "logs").glob("audit*.jsonl")
        for line in file.read_text().splitlines()
    ]
    return sorted(found, key=lambda line: float(line["ts"]))


def line_of(tree: Tree, request_id: str) -> dict[str, Any]:
    """The line of one request, once it is written."""
    wanted = until(
        lambda: [line for line in lines(tree) if line.get("request") == request_id],
        what=f"the line of {request_id}",
    )
    (found,) = wanted
    return found


def test_every_request_that_changes_something_has_its_line(audited: Tree, connect: Connect) -> None:
    raw, numbers = connect(audited), itertools.count()

    def ask(method: str, path: str, *headers: str, key: str = KEYS[0], body: bytes = b"") -> Any:
        id_ = f"r{next(numbers)}"
        sent = (f"X-Request-Id: {id_}", f"X-API-Key: {key}", *headers)
        answer = raw.request(method, path, *sent, body=body)
        return answer, line_of(audited, id_)

    invoke = "/v1/functions/f.double/invoke"
    _, line = ask("POST", invoke, "X-Forwarded-For: 9.9.9.9, 203.0.113.7", body=b'{"x": 2}')
    assert line["address"] == "203.0.113.7"
    assert (line["function"], line["status"], line["outcome"]) == ("f.double", 200, "ok")
    first = line["key"]
    _, line = ask("POST", invoke, key=KEYS[1], body=b'{"x": 2}')
    assert line["address"] == "127.0.0.1"
    assert line["key"] not in (first, None)
    _, line = ask("POST", invoke, body=b'{"x": "two"}')
    assert (line["status"], line["outcome"]) == (422, "rejected")
    _, line = ask("POST", "/v1/functions/f.fails/invoke")
    assert (line["status"], line["outcome"]) == (500, "failed")

    answer, line = ask("POST", "/v1/functions/f.train/invoke")
    task = json.loads(answer.body)["id"]
    assert (line["status"], line["task"]) == (202, task)
    audited.ended(task)
    answer, line = ask("POST", f"/v1/tasks/{task}/retry")
    assert (line["object"], line["task"]) == (f"tasks/{task}", json.loads(answer.body)["id"])
    _, line = ask("POST", f"/v1/tasks/{task}/cancel")
    assert (line["object"], line["outcome"]) == (f"tasks/{task}", "rejected")
    for verb in ("pause", "resume", "run"):
        _, line = ask("POST", f"/v1/schedules/nightly/{verb}")
        assert (line["object"], line["outcome"]) == ("schedules/nightly", "ok")

    _, line = ask("GET", "/v1/tasks", key="a-guess-of-some-length")
    assert (line["status"], line["outcome"], line["key"]) == (401, "key", None)
    _, line = ask("POST", invoke, "Origin: https://evil.example", body=b'{"x": 2}')
    assert (line["status"], line["outcome"]) == (403, "origin")

    text = "".join(file.read_text() for file in audited.folder.glob(".skipper/logs/*"))
    assert not [key for key in (*KEYS, "a-guess-of-some-length") if key in text]


def test_the_audit_is_shown_by_the_command(audited: Tree, connect: Connect) -> None:
    sent = ("X-Request-Id: shown", f"X-API-Key: {KEYS[0]}")
    connect(audited).request("POST", "/v1/functions/f.double/invoke", *sent, body=b'{"x": 2}')
    line_of(audited, "shown")
    arguments = ["logs", "--audit", "--project", str(audited.folder)]
    shown = subprocess.run(
        [sys.executable, "-m", "skipper", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=audited.environment(),
    ).stdout
    assert "POST /v1/functions/f.double/invoke" in shown
    assert "request=shown" in shown


def test_it_is_this_users_alone(audited: Tree) -> None:
    files = list((audited.folder / ".skipper" / "logs").glob("audit*"))
    assert files
    assert all(Path(file).stat().st_mode & 0o777 == 0o600 for file in files)
