"""A request's head is counted before it is kept."""

from __future__ import annotations

import contextlib

import psutil
import pytest

from tests.acceptance.tree import Tree
from tests.security.conftest import Connect

KIB = 1 << 10
CALL = b"/v1/functions/bodies.add/invoke"


def request(*lines: bytes, path: bytes = b"/livez", method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: localhost", *lines, b"", b""])


LARGE = {
    "many lines": request(*[b"A%d: b" % n for n in range(99)]),
    "one long line": request(b"A: " + b"x" * 64 * KIB),
    "many long lines": request(*[b"A%d: " % n + b"x" * 2 * KIB for n in range(40)]),
    "a long path": request(path=b"/" + b"x" * 64 * KIB),
    "a long query": request(path=b"/livez?" + b"x" * 64 * KIB),
    "a long name": request(b"A" * 64 * KIB + b": b"),
    "an end that never comes": request()[:-2] + b"A: " + b"x" * 65 * KIB,
    "empty lines before it": b"\r\n" * 33 * KIB,
    "many trailers": request(b"Transfer-Encoding: chunked", path=CALL, method=b"POST")
    + b"0\r\n"
    + b"A: b\r\n" * 120
    + b"\r\n",
    "long trailers": request(b"Transfer-Encoding: chunked", path=CALL, method=b"POST")
    + b"0\r\n"
    + (b"A: " + b"x" * 1000 + b"\r\n") * 70
    + b"\r\n",
    "long extensions of chunks": request(b"Transfer-Encoding: chunked", path=CALL, method=b"POST")
    + (b"1;" + b"x" * 1000 + b"\r\n \r\n") * 70
    + b"0\r\n\r\n",
}


@pytest.mark.parametrize("what", LARGE)
def test_a_head_that_is_too_large_is_refused_and_closed(
    attacked: Tree, connect: Connect, what: str
) -> None:
    raw = connect(attacked)
    with contextlib.suppress(ConnectionError):  # it may be closed before all of it is sent
        raw.send(LARGE[what])
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (431, "close")
    assert b"/problems/head-too-large" in answer.body
    assert answer.headers["x-request-id"]
    assert raw.closes_within(10)


def test_a_large_head_within_the_limits_is_answered(attacked: Tree, connect: Connect) -> None:
    raw = connect(attacked)
    for large in (
        request(*[b"A%d: b" % n for n in range(98)]),
        request(b"A: " + b"x" * 63 * KIB),
        request(path=b"/livez?" + b"x" * 63 * KIB),
        b"\r\n\r\n" + request(),
    ):
        raw.send(*[large[at : at + 9000] for at in range(0, len(large), 9000)])
        assert raw.answer().status == 200


def test_floods_of_headers_cost_little_memory(attacked: Tree, connect: Connect) -> None:
    """100 MB of headers, on one connection after the other and on many at once."""
    gateway = psutil.Process(attacked.pids()["gateway"])
    many = [connect(attacked) for _ in range(50)]
    for raw in many:
        raw.send(request(b"Warm: up"))
        assert raw.answer().status == 200
    before = gateway.memory_info().rss
    flood = request()[:-2] + b"".join(b"Name-%d: value-%d\r\n" % (n, n) for n in range(70_000))
    for raw in many:  # more than 2 MB each
        with contextlib.suppress(ConnectionError):
            raw.send(flood)
    assert gateway.memory_info().rss - before < 10 << 20
    assert attacked.get("/livez").status_code == 200
