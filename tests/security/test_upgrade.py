"""Offers to speak another protocol, as Java's client and `curl --http2` make them, change nothing.

A parser that stops at them loses the body, or takes it for the next request.
"""

from __future__ import annotations

import pytest

from tests.acceptance.tree import Tree
from tests.security.conftest import Connect
from tests.security.raw import Raw

OFFERS = [
    ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ", "Connection: Upgrade, HTTP2-Settings"),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
    ("uPgRaDe: anything/1", "cOnNeCtIoN: keep-alive, uPgRaDe"),
    ("Upgrade: TLS/1.0", "Upgrade: h2c", "Connection: Upgrade", "Connection: HTTP2-Settings"),
]  # fmt: skip
CALL = "/v1/functions/bodies.add/invoke"
BODY = b'{"x": 1}'
HIDDEN = b"GET /v1/functions HTTP/1.1\r\nHost: localhost\r\n\r\n"


def head(raw: Raw, *lines: str) -> bytes:
    """The head of a call."""
    first = (f"POST {CALL} HTTP/1.1", f"Host: {raw.host}", "Content-Type: application/json")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def goes_on(raw: Raw) -> None:
    """The next request on the connection is answered, and nothing before it."""
    assert raw.request("GET", "/livez").body == b"ok\n"


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_is_the_calls_wherever_it_is(
    attacked: Tree, connect: Connect, offer: tuple[str, ...]
) -> None:
    raw = connect(attacked)
    counted = head(raw, *offer, f"Content-Length: {len(BODY)}")
    chunked = head(raw, "Transfer-Encoding: chunked", *offer)
    chunks = b"3\r\n" + BODY[:3] + b"\r\n5\r\n" + BODY[3:] + b"\r\n0\r\n\r\n"
    for pieces in (
        (counted + BODY,),
        (counted, BODY),
        (counted[:50], counted[50:] + BODY[:2], BODY[2:]),
        (chunked + chunks,),
        (chunked, chunks[:6], chunks[6:]),
    ):
        raw.send(*pieces)
        answer = raw.answer()
        assert (answer.status, answer.body) == (200, b"11")
        assert "upgrade" not in answer.headers
        goes_on(raw)


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_that_is_a_request_gives_one_response(
    attacked: Tree, connect: Connect, offer: tuple[str, ...]
) -> None:
    raw = connect(attacked)
    start = head(raw, *offer, f"Content-Length: {len(HIDDEN)}")
    for pieces in ((start + HIDDEN,), (start, HIDDEN)):
        raw.send(*pieces)
        assert raw.answer().status == 400, "it is no JSON"
        goes_on(raw)


def test_a_task_gets_the_input_that_was_sent(attacked: Tree, connect: Connect) -> None:
    raw = connect(attacked)
    start = head(raw, *OFFERS[0], "Prefer: wait=30", f"Content-Length: {len(BODY)}")
    raw.send(start, BODY)
    answer = raw.answer()
    assert (answer.status, answer.body) == (200, b"11")
    goes_on(raw)


def test_an_offer_without_a_body_and_one_that_closes_are_answered(
    attacked: Tree, connect: Connect
) -> None:
    raw = connect(attacked)
    assert raw.request("GET", "/livez", *OFFERS[0]).status == 200
    goes_on(raw)
    closing = "Connection: Upgrade, HTTP2-Settings, close"
    answer = raw.request("POST", CALL, "Upgrade: h2c", closing, body=BODY)
    assert (answer.body, answer.headers["connection"]) == (b"11", "close")
    assert raw.closes_within(10)


def test_connect_is_refused_as_any_method_that_is_not_allowed(
    attacked: Tree, connect: Connect
) -> None:
    raw = connect(attacked)
    assert raw.request("CONNECT", "/livez").status == 405
    assert raw.request("CONNECT", CALL, body=HIDDEN).status == 405
    goes_on(raw)
    assert raw.request("CONNECT", "localhost:22").status == 400
    assert raw.closes_within(10)
