"""Behind proxies: whom the gateway believes, and that no answer sends anybody elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project
from tests.security.conftest import Connect
from tests.security.raw import Answer

FUNCTIONS = """
from collections.abc import Iterator
import skipper

@skipper.inference
def double(x: int) -> int:
    return 2 * x

@skipper.inference
def count() -> Iterator[int]:
    yield from range(3)

@skipper.training
def train() -> int:
    return 1
"""
PROXIED = """
[gateway]
trusted_proxies = ["127.0.0.1"]
root_path = "/set"
allowed_hosts = ["api.example.com"]
"""
TOLD = (
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: api.example.com",
    "X-Forwarded-Prefix: /told",
)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree that believes a proxy on this machine, and has a prefix of its own."""
    folder = project(tmp_path_factory.mktemp("proxied"), PROXIED, f=FUNCTIONS)
    with lent(Tree(folder, *CPU_ALONE)) as tree:
        tree.ready()
        tree.wait_for_functions()
        yield tree
        tree.end()


def every_path(tree: Tree) -> list[tuple[str, str]]:
    """Every route, as method and path, with and without a slash at its end."""
    paths = tree.json("/openapi.json")["paths"]
    called = [path for path in paths if path.endswith("/invoke")]
    paths = {path: paths[path] for path in paths if path not in called[1:]}
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    found += [("GET", path) for path in ("/", "/docs", "/openapi.json", "/docs/static", "/v1")]
    found += [("GET", "/docs/static/swagger-ui.css"), ("GET", "//evil.example/x")]
    named = [(method, path.replace("{name}", "f").replace("{id}", "0")) for method, path in found]
    return [(method, path + end) for method, path in named for end in ("", "/", "//")]


def sends_nobody_elsewhere(answer: Answer, *names: str) -> bool:
    """No header has an absolute address, and nothing repeats one that a caller has made up."""
    headers = json.dumps({k: v for k, v in answer.headers.items() if k != "x-request-id"})
    absolute = "://" in headers or any(
        address in answer.body.decode("latin-1")
        for name in names
        for address in (f"http://{name}", f"https://{name}")
    )
    return not absolute and answer.status not in (301, 302, 303, 307, 308)


def test_no_answer_holds_an_absolute_address(attacked: Tree, connect: Connect) -> None:
    """A trailing slash was redirected to plain http, whatever the caller's proxy spoke."""
    raw, own = connect(attacked), connect(attacked).host
    for method, path in every_path(attacked):
        for host in (own, "localhost", "evil.example", "localhost:80@evil.example"):
            raw.send(
                f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
                "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\r\n".encode()
            )
            answer = raw.answer()
            assert sends_nobody_elsewhere(answer, own, host, "evil.example"), (method, path, host)


def test_nor_does_one_through_a_proxy(proxied: Tree, connect: Connect) -> None:
    raw = connect(proxied)
    for method, path in every_path(proxied):
        for prefix in ("", "/set"):
            answer = raw.request(method, prefix + path, *TOLD)
            assert sends_nobody_elsewhere(answer, raw.host, "api.example.com"), (method, path)
            assert answer.headers["x-content-type-options"] == "nosniff", (method, path)


@pytest.mark.parametrize("path", ["/v1/functions", "/v1/tasks", "/docs", "/readyz"])
def test_a_slash_too_many_is_told(attacked: Tree, connect: Connect, path: str) -> None:
    answer = connect(attacked).request("GET", f"{path}/")
    assert answer.status == 404
    assert json.loads(answer.body)["detail"].endswith(f": {path}")


def test_nor_is_a_call_with_a_slash_lost(attacked: Tree, connect: Connect) -> None:
    path = "/v1/functions/bodies.add/invoke"
    answer = connect(attacked).request("POST", f"{path}/", body=b'{"x": 1}')
    assert answer.status == 404
    assert path in json.loads(answer.body)["detail"]


def test_the_docs_cannot_be_framed(attacked: Tree, connect: Connect) -> None:
    for path in ("/docs", "/openapi.json", "/v1/functions", "/docs/static/swagger-ui.css"):
        headers = connect(attacked).request("GET", path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def begin(tree: Tree, connect: Connect, *headers: str) -> tuple[Answer, Any]:
    """Start a task and see it end: the 202, and its document then."""
    raw = connect(tree)
    answer = raw.request("POST", "/v1/functions/f.train/invoke", *headers)
    assert answer.status == 202, answer.body
    id_ = json.loads(answer.body)["id"]
    return answer, json.loads(raw.request("GET", f"/v1/tasks/{id_}?wait=30", *headers).body)


def test_links_begin_where_the_callers_proxy_shows_the_gateway(
    proxied: Tree, connect: Connect
) -> None:
    for headers, prefix in (((), "/set"), (TOLD, "/told"), (("X-Forwarded-Prefix: //x",), "/set")):
        accepted, task = begin(proxied, connect, *headers)
        assert accepted.headers["location"] == f"{prefix}/v1/tasks/{task['id']}"
        assert task["result"] == f"{prefix}/v1/tasks/{task['id']}/result"
        raw = connect(proxied)
        path = f"/v1/tasks/{task['id']}/attempts"
        (attempt,) = json.loads(raw.request("GET", path, *headers).body)["items"]
        assert attempt["logs"].startswith(f"{prefix}/v1/tasks/")
        retried = raw.request("POST", f"/v1/tasks/{task['id']}/retry", *headers)
        assert retried.headers["location"].startswith(f"{prefix}/v1/tasks/")
        stream = raw.request("GET", f"/v1/tasks/{task['id']}/events", *headers)
        assert f'"{prefix}/v1/tasks/{task["id"]}/result"'.encode() in stream.body
        document = json.loads(raw.request("GET", "/openapi.json", *headers).body)
        assert document["servers"] == [{"url": prefix}]


@pytest.mark.parametrize(
    "path", ["/set/v1/functions/f.double/invoke", "/v1/functions/f.double/invoke"]
)
def test_a_proxy_may_take_the_prefix_off_or_leave_it(
    proxied: Tree, connect: Connect, path: str
) -> None:
    answer = connect(proxied).request("POST", path, *TOLD, body=b'{"x": 4}')
    assert (answer.status, answer.body) == (200, b"8")


def test_a_strangers_headers_change_no_answer(attacked: Tree, connect: Connect) -> None:
    for path in ("/v1/functions", "/openapi.json", "/docs", "/v1/functions/bodies.add"):
        plain = connect(attacked).request("GET", path)
        told = connect(attacked).request("GET", path, *TOLD, "Forwarded: for=1.2.3.4;proto=https")
        assert (plain.status, plain.body) == (told.status, told.body)


NGINX = """{method} {path} HTTP/1.1
Host: api.example.com
X-Forwarded-For: 203.0.113.7
X-Forwarded-Proto: https
X-Forwarded-Host: api.example.com:8443
X-Forwarded-Prefix: /ml
"""
NGINX_AS_IT_COMES = """{method} {path} HTTP/1.0
Host: 127.0.0.1:8000
Connection: close
"""
CADDY = """{method} {path} HTTP/1.1
Host: api.example.com
Forwarded: for=1.2.3.4
X-Forwarded-For: 203.0.113.7
X-Forwarded-Host: api.example.com
X-Forwarded-Prefix: /ml
X-Forwarded-Proto: https
Accept-Encoding: gzip
"""


def sent_by(proxy: str, method: str, path: str, body: bytes = b"", accept: str = "*/*") -> bytes:
    """A request as a proxy sends it on; those above are copies of what was received."""
    more = f"Content-Length: {len(body)}\nContent-Type: application/json\nAccept: {accept}\n\n"
    head = proxy.format(method=method, path=path) + more
    return head.replace("\n", "\r\n").encode() + body


@pytest.mark.parametrize("proxy", [NGINX, NGINX_AS_IT_COMES, CADDY])
def test_a_proxys_requests_are_answered_on_one_connection(
    proxied: Tree, connect: Connect, proxy: str
) -> None:
    prefix = "/ml" if "X-Forwarded-Prefix" in proxy else "/set"
    raw = connect(proxied)
    for _ in range(3):
        if "close" in proxy:
            raw = connect(proxied)
        raw.send(sent_by(proxy, "POST", "/v1/functions/f.double/invoke", b'{"x": 4}'))
        assert raw.answer().body == b"8"
    raw = connect(proxied)
    raw.send(sent_by(proxy, "POST", "/v1/functions/f.train/invoke", b"{}"))
    assert raw.answer().headers["location"].startswith(f"{prefix}/v1/tasks/")


@pytest.mark.parametrize("proxy", [NGINX, CADDY])
def test_streams_tell_proxies_not_to_hold_them_back(
    proxied: Tree, connect: Connect, proxy: str
) -> None:
    raw = connect(proxied)
    raw.send(sent_by(proxy, "POST", "/v1/functions/f.count/invoke", b"{}", "text/event-stream"))
    answer = raw.answer()
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.count(b"event: item") == 3


@pytest.mark.parametrize("proxy", [NGINX, CADDY])
def test_a_page_behind_the_proxy_is_of_the_gateways_own_origin(
    proxied: Tree, connect: Connect, proxy: str
) -> None:
    path = "/v1/functions/f.double/invoke"
    host = "api.example.com:8443" if "8443" in proxy else "api.example.com"
    for origin, status in ((f"https://{host}", 200), (f"http://{host}", 403)):
        raw = connect(proxied)
        request = sent_by(proxy + f"Origin: {origin}\n", "POST", path, b'{"x": 4}')
        raw.send(request)
        assert raw.answer().status == status, origin
