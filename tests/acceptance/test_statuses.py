"""Which status and which problem document a request gets that does not end in a value."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.acceptance.tree import Gate, Tree

REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document, after a look at what each one has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


def test_an_unknown_function_is_not_found(plain: Tree) -> None:
    response = plain.invoke("bodies.subtract", {})
    told = problem(response, 404, "unknown-function")
    assert "bodies.subtract" in told["detail"]
    assert "bodies.add" in told["functions"]
    assert REQUEST_ID.fullmatch(response.headers["x-request-id"])


@pytest.mark.parametrize("name", ["nobody.there", "bodies", "a/b", "%00", "é", "x" * 300])
def test_names_of_no_function_are_never_an_error_of_the_server(plain: Tree, name: str) -> None:
    for response in (
        plain.post(f"/v1/functions/{name}/invoke", json={}),
        plain.get(f"/v1/functions/{name}"),
    ):
        assert response.status_code in (400, 404), response.text
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b'{"x": 1,}', b"\xff\xfe", b'{"x": 1} {}', b'{"x": NaN}']
)
def test_a_body_that_is_not_json_is_malformed(plain: Tree, body: bytes) -> None:
    response = plain.post(
        "/v1/functions/bodies.add/invoke",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    problem(response, 400, "malformed-body")


@pytest.mark.parametrize(
    ("name", "body", "pointer"),
    [
        ("bodies.add", {"x": "one"}, "/x"),
        ("bodies.add", {}, "/x"),
        ("bodies.add", {"x": 1, "z": 2}, "/z"),
        ("bodies.add", [1, 2], ""),
        ("bodies.price", {"rooms": 0}, "/rooms"),
        ("bodies.both", {"house": {"rooms": "many"}}, "/house/rooms"),
        ("bodies.both", {"house": {"rooms": 1}, "factor": 3}, "/factor"),
        ("nest.fan_out", {"items": [1, "two"]}, "/items/1"),
    ],
)
def test_a_body_that_does_not_match_names_the_place(
    plain: Tree, name: str, body: Any, pointer: str
) -> None:
    told = problem(plain.invoke(name, body), 422, "invalid-input")
    assert [error["pointer"] for error in told["errors"]] == [pointer]
    assert told["errors"][0]["detail"]


def test_a_task_with_a_body_that_does_not_match_is_not_accepted(plain: Tree) -> None:
    before = plain.json("/v1/tasks", params={"function": "work.adds"})["items"]
    told = problem(plain.invoke("work.adds", {"x": "one"}), 422, "invalid-input")
    assert told["errors"][0]["pointer"] == "/x"
    problem(
        plain.post(
            "/v1/functions/work.adds/invoke",
            content=b"{",
            headers={"Content-Type": "application/json"},
        ),
        400,
        "malformed-body",
    )
    assert plain.json("/v1/tasks", params={"function": "work.adds"})["items"] == before


def test_a_body_above_the_limit_is_too_large(plain: Tree) -> None:
    limit = 8 << 20
    body = b'{"text": "' + b"x" * limit + b'"}'
    headers = {"Content-Type": "application/json"}
    told_ahead = plain.post("/v1/functions/bodies.size/invoke", content=body, headers=headers)
    problem(told_ahead, 413, "body-too-large")
    pieces = (body[at : at + (1 << 16)] for at in range(0, len(body), 1 << 16))
    unannounced = plain.post("/v1/functions/bodies.size/invoke", content=pieces, headers=headers)
    problem(unannounced, 413, "body-too-large")
    assert plain.value("bodies.size", {"text": "x" * (limit - 100)}) == limit - 100


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(plain: Tree, media: str) -> None:
    response = plain.post(
        "/v1/functions/bodies.add/invoke",
        content=b'{"x": 1}',
        headers={"Content-Type": media} if media else {},
    )
    problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_is_known_by_its_name_alone(plain: Tree, media: str) -> None:
    response = plain.post(
        "/v1/functions/bodies.add/invoke",
        content=b'{"x": 1}',
        headers={"Content-Type": media},
    )
    assert response.json() == 11


def test_what_a_function_raises_is_told_with_the_users_own_frames(plain: Tree) -> None:
    response = plain.invoke("bad.raises", x_request_id="asked-by-me")
    told = problem(response, 500, "function-error")
    assert told["detail"] == "ValueError: boom"
    assert told["exception"] == "ValueError"
    assert told["function"] == "bad.raises"
    assert told["request_id"] == response.headers["x-request-id"] == "asked-by-me"
    assert 'raise ValueError("boom")' in told["traceback"]
    assert "skipper/instance" not in told["traceback"]
    assert re.fullmatch(r"[0-9a-f]{12}", response.headers["x-skipper-code"])


def test_a_death_is_a_bad_gateway_and_says_how(plain: Tree) -> None:
    told = problem(plain.invoke("bad.kills_itself"), 502, "instance-died")
    assert "SIGKILL" in told["detail"]


def test_a_deadline_is_a_timeout(plain: Tree) -> None:
    told = problem(plain.invoke("bad.oversleeps"), 504, "deadline-passed")
    assert "6 s" in told["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/tasks/0123456789", 404),
        ("GET", "/v1/tasks/0123456789/result", 404),
        ("GET", "/v1/tasks/0123456789/events", 404),
        ("GET", "/v1/tasks/0123456789/logs", 404),
        ("POST", "/v1/tasks/0123456789/cancel", 404),
        ("POST", "/v1/tasks/0123456789/retry", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/functions/bodies.add/invoke", 405),
        ("DELETE", "/v1/tasks", 405),
        ("GET", "/v1/tasks?limit=0", 400),
        ("GET", "/v1/tasks?limit=many", 400),
        ("GET", "/v1/tasks?state=asleep", 400),
        ("GET", "/v1/tasks?cursor=made-up", 400),
        ("GET", "/v1/tasks/..%2F..%2Fetc", 404),
    ],
)
def test_other_paths_answer_with_problems_too(
    plain: Tree, method: str, path: str, status: int
) -> None:
    response = plain.http.request(method, path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"]
    assert REQUEST_ID.fullmatch(response.headers["x-request-id"])


def test_every_reply_carries_the_callers_id(plain: Tree) -> None:
    for path in ("/livez", "/v1/functions", "/v1/tasks", "/v1/nothing", "/docs"):
        response = plain.get(path, headers={"X-Request-Id": "mine-1"})
        assert response.headers.get_list("x-request-id") == ["mine-1"], path
    refused = plain.get("/docs", headers={"X-Request-Id": "mine-2", "Host": "evil.example"})
    assert refused.headers.get_list("x-request-id") == ["mine-2"]


def test_a_refused_method_is_told_with_those_that_are_taken(plain: Tree) -> None:
    response = plain.http.request("DELETE", "/v1/tasks")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"


def test_only_names_of_this_machine_are_served(plain: Tree) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example"):
        response = plain.get("/v1/functions", headers={"Host": host})
        problem(response, 421, "unknown-host")
    problem(plain.get("/v1/functions", headers={"Host": ""}), 400, "bad-request")
    for host in ("localhost", "localhost:1", "127.0.0.1:8000", "[::1]:8000"):
        assert plain.get("/v1/functions", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_cannot_call(plain: Tree) -> None:
    response = plain.invoke("bodies.add", {"x": 1}, sec_fetch_site="cross-site")
    problem(response, 403, "forbidden")


def test_the_task_of_a_death_answers_what_the_direct_call_would(plain: Tree) -> None:
    problem(plain.invoke("bad.exits_at_once", prefer="wait=60"), 502, "instance-died")
    problem(plain.invoke("bad.raises", prefer="wait=60"), 500, "function-error")
    told = problem(plain.invoke("work.late", prefer="wait=60"), 504, "deadline-passed")
    assert plain.task(told["task_id"])["state"] == "timed_out"


def test_a_caller_that_leaves_frees_its_place(plain: Tree, gate: Gate) -> None:
    with pytest.raises(httpx.ReadTimeout):
        plain.post("/v1/functions/hold.direct/invoke", json=gate.body, timeout=1)
    gate.open()
    assert isinstance(plain.value("hold.direct", gate.body), int)
