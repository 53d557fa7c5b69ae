"""Pages: those of other origins act on nothing, those that are named get what browsers need."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.tree import Tree
from tests.security.conftest import APP, KEYS, Connect
from tests.security.raw import Answer

CALL = "/v1/functions/bodies.add/invoke"
BODY = b'{"x": 1}'
SCHEDULE = "/v1/schedules/leap"
PREFLIGHT = (
    "Sec-Fetch-Mode: cors",
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: authorization,content-type",
)


def is_told(answer: Answer) -> bool:
    """Whether a browser would let a page read it."""
    return any(name.startswith("access-control-") for name in answer.headers)


@pytest.mark.parametrize(
    "page",
    [
        ("Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"),
        ("Origin: http://127.0.0.1:3000",),
        ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site"),
        ("Origin: null", "Sec-Fetch-Site: cross-site"),
        ("Origin: null",),
        ("Sec-Fetch-Site: same-site",),
        ("Sec-Fetch-Site: cross-site",),
    ],
)
@pytest.mark.parametrize("tree", ["attacked", "public"])
def test_a_page_of_another_origin_changes_nothing(
    request: pytest.FixtureRequest, connect: Connect, tree: str, page: tuple[str, ...]
) -> None:
    asked: Tree = request.getfixturevalue(tree)
    raw = connect(asked)
    for path in (CALL, f"{SCHEDULE}/pause", f"{SCHEDULE}/run", "/v1/tasks/0/cancel"):
        # As a form or a beacon sends it: without a preflight.
        answer = raw.request("POST", path, *page, body=BODY)
        assert answer.status == 403, path
        assert json.loads(answer.body)["type"] == "/problems/forbidden"
        assert not is_told(answer)
    for method in ("PUT", "DELETE", "PATCH"):
        assert raw.request(method, SCHEDULE, *page).status == 403
    read = raw.request("GET", "/v1/functions", *page)
    assert read.status == 200
    assert not is_told(read)
    asks = raw.request("OPTIONS", CALL, *page, *PREFLIGHT)
    assert asks.status == 403
    assert not is_told(asks)


def test_a_schedule_is_where_no_page_has_moved_it(attacked: Tree, connect: Connect) -> None:
    before = attacked.json(SCHEDULE)
    connect(attacked).request("POST", f"{SCHEDULE}/resume", "Origin: http://localhost:3000")
    assert attacked.json(SCHEDULE)["state"] == before["state"] == "paused"


def test_the_gateways_own_page_acts(attacked: Tree, connect: Connect) -> None:
    raw = connect(attacked)
    for page in (
        (f"Origin: {attacked.url}", "Sec-Fetch-Site: same-origin"),
        (f"Origin: {attacked.url}",),
        ("Sec-Fetch-Site: same-origin",),
        ("Sec-Fetch-Site: none",),
    ):
        assert raw.request("POST", CALL, *page, body=BODY).body == b"11"


@pytest.mark.parametrize("tree", ["public", "locked"])
def test_a_page_that_is_named_calls_as_a_browser_has_it(
    request: pytest.FixtureRequest, connect: Connect, tree: str
) -> None:
    asked: Tree = request.getfixturevalue(tree)
    raw, page = connect(asked), (f"Origin: {APP}", "Sec-Fetch-Site: cross-site")
    preflight = raw.request("OPTIONS", CALL, *page, *PREFLIGHT)
    assert (preflight.status, preflight.body) == (204, b"")
    taken = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "prefer", "x-api-key"} <= set(taken)
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = raw.request("POST", CALL, *page, f"X-API-Key: {KEYS[1]}", body=BODY)
    assert (answer.status, answer.body) == (200, b"11")
    for each in (preflight, answer):
        assert each.headers["access-control-allow-origin"] == APP
        assert "Origin" in each.headers["vary"]
        assert "access-control-allow-credentials" not in each.headers
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (CALL, ("X-API-Key: wrong",), 401),
        ("/v1/functions/no.such/invoke", (f"X-API-Key: {KEYS[0]}",), 404),
        ("/nowhere", (f"X-API-Key: {KEYS[0]}",), 404),
        ("/v1/functions", (f"X-API-Key: {KEYS[0]}",), 405),
        (CALL, (f"X-API-Key: {KEYS[0]}", "Content-Encoding: br"), 415),
    ],
)
def test_it_reads_errors_too(
    locked: Tree, connect: Connect, path: str, headers: tuple[str, ...], status: int
) -> None:
    answer = connect(locked).request("POST", path, f"Origin: {APP}", *headers, body=BODY)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == APP


def test_an_origin_that_is_nearly_the_named_one_is_another(locked: Tree, connect: Connect) -> None:
    for origin in (f"{APP}/", f"{APP}:8443", f"{APP}.evil.example", APP.replace("https", "http")):
        key = f"Authorization: Bearer {KEYS[0]}"
        answer = connect(locked).request("POST", CALL, f"Origin: {origin}", key, body=BODY)
        assert answer.status == 403
        assert not is_told(answer)


# --- hosts ---


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("skipper.test", 421),
        ("a.skipper.test", 200),
        ("a.b.skipper.test:8443", 200),
        ("", 400),
        ("local host", 400),
        ("a.skipper.test:80:80", 400),
        ("user@localhost", 400),
        ("[::1", 400),
        ("localhost, localhost", 400),
    ],
)
def test_a_host_is_one_that_is_served(
    public: Tree, connect: Connect, host: str, status: int
) -> None:
    raw = connect(public)
    raw.host = host
    assert raw.request("GET", "/v1/functions").status == status
    for path in ("/livez", "/readyz"):
        assert raw.request("GET", path).status in (200, 400, 503)


def test_a_request_with_two_hosts_is_refused(public: Tree, connect: Connect) -> None:
    for second in ("localhost", "evil.example"):
        answer = connect(public).request("GET", "/v1/functions", f"Host: {second}")
        assert answer.status in (400, 421)


def test_probes_come_by_address(public: Tree, connect: Connect) -> None:
    raw = connect(public)
    raw.host = "10.1.2.3:8000"
    assert raw.request("GET", "/livez").body == b"ok\n"
    assert raw.request("GET", "/readyz").status in (200, 503)
    assert raw.request("GET", "/readyz?verbose").status == 421
