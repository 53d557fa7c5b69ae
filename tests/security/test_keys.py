"""Where keys are set nobody comes in without one, and a key that lets everybody in is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.tree import Tree, project, until
from tests.security.conftest import KEYS, Connect

FIRST, SECOND = KEYS


# --- keys that are none ---


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('[""]', "is empty"),
        ('["   "]', "is empty"),
        ('[" 0123456789abcdef"]', "begins or ends with a blank"),
        ('["short"]', "fewer than 16"),
    ],
)
def test_a_key_that_is_none_stops_the_start_with_its_line(
    tmp_path: Path, written: str, words: str
) -> None:
    project(tmp_path, f'[gateway]\nhost = "0.0.0.0"\nport = 0\nkeys = {written}\n')
    ended = up(Tree(tmp_path), "up")
    assert ended.returncode == 3
    assert "skipper.toml:4: gateway.keys: " in ended.stderr
    assert words in ended.stderr


@pytest.mark.parametrize(("command", "text"), [("up", ""), ("config show", ",")])
def test_so_does_a_variable_that_a_template_left_empty(
    tmp_path: Path, command: str, text: str
) -> None:
    project(tmp_path, f'[gateway]\nport = 0\nkeys = ["{FIRST}"]\n')
    ended = up(Tree(tmp_path, SKIPPER_GATEWAY_KEYS=text), command)
    assert ended.returncode == 3
    assert "$SKIPPER_GATEWAY_KEYS: gateway.keys: key 1" in ended.stderr
    assert FIRST not in ended.stderr + ended.stdout


def up(tree: Tree, command: str) -> subprocess.CompletedProcess[str]:
    verb = [sys.executable, "-m", "skipper", *command.split(), "--project", str(tree.folder)]
    return subprocess.run(
        verb, env=tree.environment(), capture_output=True, text=True, timeout=60, check=False
    )


# --- requests without a key ---

PATHS = (
    "/",
    "/docs",
    "/docs/static/swagger-ui.css",
    "/openapi.json",
    "/metrics",
    "/readyz?verbose",
    "/readyz/",
    "//livez",
    "/livez/../v1/functions",
    "/livez%2f..%2fv1%2ffunctions",
    "/v1/functions",
    "/v1/functions/bodies.add",
    "/v1/functions/bodies.add/invoke",
    "/v1/tasks",
    "/v1/tasks/0/events",
    "/v1/pools",
    "/v1/webhooks",
    "/nowhere",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")


@pytest.mark.parametrize("method", METHODS)
def test_without_a_key_no_path_is_answered_by_any_method(
    locked: Tree, connect: Connect, method: str
) -> None:
    raw = connect(locked)
    for path in PATHS:
        answer = raw.request(method, path)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert method == "HEAD" or json.loads(answer.body)["status"] == 401


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "Authorization: Bearer undefined",
        "Authorization: Basic Zmlyc3Q6a2V5",
        f"Authorization: {FIRST}",
        f"Authorization: Bearer {FIRST[:-1]}",
        f"Authorization: Bearer {FIRST} {SECOND}",
        "X-API-Key:",
        f"X-API-Key: {FIRST}0",
        f"X-API-Key: {FIRST.upper()}",
        f"X_API_Key: {FIRST}",
        f"Cookie: key={FIRST}",
        f"Proxy-Authorization: Bearer {FIRST}",
    ],
)
def test_a_wrong_key_is_none(locked: Tree, connect: Connect, header: str) -> None:
    assert connect(locked).request("GET", "/v1/functions", header).status == 401


def test_a_key_in_the_address_is_none(locked: Tree, connect: Connect) -> None:
    raw = connect(locked)
    for name in ("key", "api_key", "access_token", "X-API-Key"):
        assert raw.request("GET", f"/v1/functions?{name}={FIRST}").status == 401


@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        (f"Authorization: Bearer {FIRST}", "X-API-Key: wrong", 200),
        ("Authorization: Bearer wrong", f"X-API-Key: {SECOND}", 200),
        (f"Authorization: bEaReR  {FIRST}", "Authorization: Bearer wrong", 200),
        (f"X-API-Key: {SECOND}", "X-API-Key:", 200),
        (f"X-API-Key: {SECOND}", f"X-API-Key: {FIRST}", 200),
        ("Authorization: Bearer wrong", "X-API-Key: wrong", 401),
        (f"Authorization: Bearer {FIRST[:10]}", f"X-API-Key: {FIRST[10:]}", 401),
    ],
)
def test_several_keys_are_answered_alike_in_any_order(
    locked: Tree, connect: Connect, one: str, other: str, status: int
) -> None:
    raw = connect(locked)
    for headers in ((one, other), (other, one)):
        assert raw.request("GET", "/v1/functions", *headers).status == status


def test_a_protocol_that_is_switched_to_is_no_way_in(locked: Tree, connect: Connect) -> None:
    websocket = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    nonce = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for path in ("/v1/functions", "/livez", "/"):
        answer = connect(locked).request("GET", path, *websocket, nonce)
        assert answer.status in (200, 401, 403)
        assert b"bodies" not in answer.body


def test_what_is_refused_is_counted_and_logged_without_the_key(
    locked: Tree, connect: Connect
) -> None:
    wrong = "wrong-key-0123456789"
    before = refused(locked)
    raw = connect(locked)
    for _ in range(20):
        assert raw.request("POST", "/v1/functions", f"X-API-Key: {wrong}").status == 401
    assert refused(locked) == before + 20
    line = "refused a request without a right key, from 127.0.0.1"
    until(lambda: line in locked.output)
    assert locked.output.count("refused a request without a right key") == 1
    assert wrong not in locked.output


def test_that_keys_go_in_clear_is_told_once(locked: Tree) -> None:
    assert locked.output.count("go over the network in clear") == 1


def refused(tree: Tree) -> int:
    found = re.search(r'skipper_refused_total\{reason="key"\} (\d+)', tree.get("/metrics").text)
    assert found
    return int(found[1])
