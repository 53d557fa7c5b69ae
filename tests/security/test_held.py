"""What held when it was attacked, so that it goes on holding."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.tree import CPU_ALONE, LIMIT_S, Tree, lent, project
from tests.security.conftest import Connect

KEY = "k-3f9d0c5e7a41b286"
CALLED = """
import pathlib
import skipper

CALLS = pathlib.Path(__file__).with_name("calls")

@skipper.data
def noted() -> str:
    with CALLS.open("a") as file:
        file.write("called\\n")
    return "done"
"""
METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "COPY",
    "LOCK",
    "REPORT",
    "SEARCH",
    "PURGE",
]
OPEN = {"/livez", "/readyz"}
"""What answers without a key."""
TASK = "01k00000000000000000000000"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree with a key, and a function that notes each of its calls."""
    folder = tmp_path_factory.mktemp("locked") / "project"
    project(folder, f'[gateway]\nkeys = ["{KEY}"]\n', noted=CALLED)
    tree = Tree(folder, *CPU_ALONE)
    tree.key = KEY
    with lent(tree):
        yield tree.ready()
        tree.end()


def calls_of(tree: Tree) -> int:
    noted = tree.folder / "functions" / "calls"
    return noted.read_text().count("called") if noted.exists() else 0


def _paths(tree: Tree) -> Iterator[str]:
    for path in tree.json("/openapi.json")["paths"]:
        yield path.replace("{task_id}", TASK).replace("{name}", "noted.noted")
    yield from (
        "/docs",
        "/openapi.json",
        "/metrics",
        "/docs/static/swagger-ui.css",
        "/",
        "/nothing",
    )


def _disguises(path: str) -> Iterator[str]:
    """Other spellings of a path, which a gateway and what stands before it may read differently."""
    yield path
    yield "/" + path
    yield path + "/"
    yield path + "?key=x"
    yield "/livez/.." + path
    yield "/livez;" + path
    yield "/livez%2f.." + path
    yield path.upper()
    yield path.replace("/", "/%2e/", 1)
    yield path.replace("v1", "%761")


def test_no_path_by_any_method_answers_without_a_key(locked: Tree) -> None:
    before = calls_of(locked)
    with httpx.Client(base_url=locked.url, timeout=LIMIT_S) as stranger:
        for path, method in itertools.product(_paths(locked), METHODS):
            status = stranger.request(method, path, content=b"{}" * (method == "POST")).status_code
            assert (status == 401) is (path not in OPEN), (method, path, status)
    assert calls_of(locked) == before


def test_no_spelling_of_a_path_passes_by_the_key(locked: Tree, connect: Connect) -> None:
    before, raw = calls_of(locked), connect(locked)
    for path in [*_paths(locked)]:
        if path in OPEN:
            continue
        for disguise, method in itertools.product(_disguises(path), ("GET", "POST")):
            answer = raw.request(method, disguise)
            assert answer.status in (401, 404), (method, disguise, answer)
            assert b"noted" not in answer.body
    assert calls_of(locked) == before
    assert locked.value("noted.noted") == "done"


def test_no_key_that_is_nearly_right_lets_anybody_in(locked: Tree) -> None:
    wrong = (KEY[:-1], KEY + "0", KEY.upper(), KEY[::-1], f"{KEY},{KEY}", f'"{KEY}"', "*")
    for key, name in itertools.product(wrong, ("Authorization", "X-API-Key")):
        value = f"Bearer {key}" if name == "Authorization" else key
        reply = httpx.get(f"{locked.url}/v1/functions", headers={name: value})
        assert reply.status_code == 401, (name, key)
    reply = httpx.get(f"{locked.url}/v1/functions", auth=("user", KEY))
    assert reply.status_code == 401
    reply = httpx.get(f"{locked.url}/v1/functions?key={KEY}&api_key={KEY}&access_token={KEY}")
    assert reply.status_code == 401
    reply = httpx.get(f"{locked.url}/v1/functions", cookies={"key": KEY, "authorization": KEY})
    assert reply.status_code == 401


# --- bodies -------------------------------------------------------------------------------------

DEEP = 100_000
BODIES: dict[str, bytes] = {
    "nested lists": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"x":' * DEEP + b"1" + b"}" * DEEP,
    "an unfinished nest": b'{"x": ' + b"[" * DEEP,
    "a number of a million digits": b'{"x": ' + b"9" * 1_000_000 + b"}",
    "an exponent without end": b'{"x": 1e' + b"9" * 10_000 + b"}",
    "infinity": b'{"x": Infinity}',
    "not a number": b'{"x": NaN}',
    "a lone surrogate": b'{"x": "\\ud800"}',
    "bytes that are no UTF-8": b'{"x": "\xff\xfe"}',
    "UTF-16": '{"x": 1}'.encode("utf-16"),
    "a mark before it": b"\xef\xbb\xbf" + b'{"x": 1}',
    "two values": b'{"x": 1}{"x": 2}',
    "a comment": b'{"x": 1 /* one */}',
    "a NUL": b'{"x": 1}\x00',
    "single quotes": b"{'x': 1}",
    "a pickle": pickle.dumps(Path("x")),
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>',
    "a member of the class": b'{"x": {"__class__": "os"}}',
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none_is_the_callers_fault_and_nobody_elses(
    attacked: Tree, name: str
) -> None:
    headers = {"Content-Type": "application/json"}
    path = "/v1/functions/bodies.add/invoke"
    before = attacked.pids()
    for more in ({}, {"Prefer": "respond-async"}):
        reply = attacked.post(path, content=BODIES[name], headers=headers | more)
        assert reply.status_code in (400, 422), reply.text[:300]
        assert reply.headers["content-type"] == "application/problem+json"
        assert len(reply.content) < 10_000
    assert attacked.value("bodies.add", {"x": 1}) == 11
    assert attacked.pids() == before


# --- names, ids and cursors ---------------------------------------------------------------------

NAMES = (
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "....//....//etc/passwd",
    "%00",
    "a%00b",
    "%ff%fe",
    "%ed%a0%80",
    "con",
    "a" * 5000,
    "'%20OR%201=1--",
    "%27;DROP%20TABLE%20tasks;--",
    "{{7*7}}",
    "$%7Bjndi:ldap:x%7D",
    "%e2%80%ae",
    "%0d%0aSet-Cookie:x=1",
    "__class__",
    "-1",
    "1e9",
)
PLACES = (
    "/v1/functions/{}",
    "/v1/tasks/{}",
    "/v1/tasks/{}/result",
    "/v1/tasks/{}/events",
    "/v1/tasks/{}/logs",
    "/v1/models/{}",
    "/v1/schedules/{}",
    "/v1/tasks?cursor={}",
    "/v1/tasks?function={}",
    "/v1/tasks?state={}",
    "/v1/tasks?limit={}",
    "/docs/static/{}",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_name_is_looked_up_and_never_followed(
    attacked: Tree, connect: Connect, place: str
) -> None:
    raw = connect(attacked)
    for name in NAMES:
        answer = raw.request("GET", place.format(name))
        assert answer.status in (200, 400, 404, 422), (name, answer)
        assert "set-cookie" not in answer.headers
        assert b"root:" not in answer.body
        if answer.status == 200:
            assert json.loads(answer.body)["items"] == [], name


def _escapes(text: str) -> dict[str, Any]:
    return {"terminal": f"\x1b[2J\x1b]0;{text}\x07", "line": f"\r\nERROR {text}", "bell": "\x9b31m"}


@pytest.mark.parametrize("name", ["terminal", "line", "bell"])
def test_what_a_caller_sends_cannot_drive_the_terminal_of_who_watches(
    attacked: Tree, connect: Connect, name: str
) -> None:
    text = _escapes("planted")[name]
    quoted = "".join(f"%{byte:02x}" for byte in text.encode("latin-1"))
    raw = connect(attacked)
    raw.request("GET", f"/v1/functions/{quoted}")
    raw.request("POST", f"/v1/functions/{quoted}/invoke", "X-Request-Id: a\x1b[2Jb")
    attacked.invoke("bodies.add", {"x": text})
    attacked.ended(attacked.submit("bodies.add", {"x": 1}))
    assert "\x1b]0;planted" not in attacked.output
    assert "\nERROR planted" not in attacked.output
    assert "\x9b31m" not in attacked.output


def test_a_static_file_is_one_of_those_that_are_there(attacked: Tree, connect: Connect) -> None:
    raw = connect(attacked)
    here = Path(__file__).name
    for path in (f"..%2f{here}", "%2e%2e/%2e%2e/app.py", "..%5c..%5capp.py", "/etc/passwd", "."):
        assert raw.request("GET", f"/docs/static/{path}").status in (400, 404), path
