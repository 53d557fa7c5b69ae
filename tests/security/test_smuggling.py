"""One message is one message: nothing that two servers may read in two ways is let in."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.tree import LIMIT_S, Tree
from tests.security.conftest import Connect

HOST = b"Host: localhost\r\n"
CALL = b"POST /v1/functions/bodies.add/invoke HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"

REFUSED = {
    "length of 5,000 digits": CALL + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "length beyond 64 bits": CALL + b"Content-Length: 18446744073709551616\r\n\r\n",
    "length below zero": CALL + b"Content-Length: -1\r\n\r\n",
    "length with a plus": CALL + b"Content-Length: +5\r\n\r\n",
    "length in hexadecimal": CALL + b"Content-Length: 0x5\r\n\r\n",
    "length with an underscore": CALL + b"Content-Length: 1_0\r\n\r\n",
    "length with a blank in it": CALL + b"Content-Length: 1 0\r\n\r\n",
    "empty length": CALL + b"Content-Length: \r\n\r\n",
    "list of lengths": CALL + b"Content-Length: 5, 5\r\n\r\nhello",
    "two lengths": CALL + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": CALL + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length, then chunks": CALL + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks, then length": CALL + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length, chunks and an upgrade": CALL
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n",
    "an unknown coding": CALL + b"Transfer-Encoding: xchunked\r\n\r\n",
    "an unknown coding and an upgrade": CALL
    + b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: identity\r\n\r\n",
    "a coding after chunked": CALL + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "a coding before chunked": CALL + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked twice": CALL + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked with a vertical tab": CALL + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "chunks in HTTP/1.0": CALL.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "a blank before a colon": CALL + b"Content-Length : 5\r\n\r\nhello",
    "a folded line": CALL + b"A: b\r\n Content-Length: 5\r\n\r\nhello",
    "a folded first line": CALL + b" A: b\r\n\r\n",
    "a line that ends with LF": CALL + b"A: b\nContent-Length: 5\r\n\r\nhello",
    "a line that ends with CR": CALL + b"A: b\rContent-Length: 5\r\n\r\nhello",
    "an end of two LF": CALL[:-2] + b"\n\n",
    "NUL in a value": CALL + b"A: b\x00c\r\n\r\n",
    "NUL in a name": CALL + b"A\x00: b\r\n\r\n",
    "a name that is none": CALL + b"A(b): c\r\n\r\n",
    "no name": CALL + b": c\r\n\r\n",
    "no colon": CALL + b"Content-Length\r\n\r\n",
    "two hosts": CALL + b"Host: other\r\nContent-Length: 0\r\n\r\n",
    "the same host twice": CALL + HOST + b"Content-Length: 0\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "another host in the path": b"GET http://evil/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /livez#a HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path of other bytes": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no slash": b"GET livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a blank in the path": b"GET /livez HTTP/1.1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab": b"GET\t/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /livez\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in a head of HTTP/1": b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "a method that is none": b"GET\x01 /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a chunk without a size": CALL + CHUNKED + b"\r\n\r\n",
    "a size that is none": CALL + CHUNKED + b"\r\nzz\r\n",
    "a size with 0x": CALL + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a size below zero": CALL + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a size with a plus": CALL + CHUNKED + b"\r\n+5\r\nhello\r\n0\r\n\r\n",
    "a size with a blank": CALL + CHUNKED + b"\r\n5 \r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": CALL + CHUNKED + b"\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size that ends with LF": CALL + CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n",
    "a chunk that is too long": CALL + CHUNKED + b"\r\n2\r\nhello\r\n0\r\n\r\n",
    "a chunk that ends with LF": CALL + CHUNKED + b"\r\n5\r\nhello\n0\r\n\r\n",
    "NUL in an extension": CALL + CHUNKED + b"\r\n5;a\x00\r\nhello\r\n0\r\n\r\n",
    "CR in an extension": CALL + CHUNKED + b"\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a trailer that is none": CALL + CHUNKED + b"\r\n0\r\nno trailer\r\n\r\n",
    "a trailer that is folded": CALL + CHUNKED + b"\r\n0\r\nA: b\r\n c\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_be_read_in_two_ways_is_refused_and_closed(
    attacked: Tree, connect: Connect, what: str
) -> None:
    raw = connect(attacked)
    raw.send(REFUSED[what] + HIDDEN)
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    with pytest.raises(EOFError):
        raw.answer()


def test_what_is_unusual_and_clear_is_answered(attacked: Tree, connect: Connect) -> None:
    raw = connect(attacked)
    for lines in (
        b'Content-Length: 0009\r\n\r\n{"x": 1 }',
        b'Content-Length:\t9 \t\r\n\r\n{"x": 1 }',
        b'tRANSFER-eNCODING: Chunked\r\n\r\n0009;a="b";c\r\n{"x": 1 }\r\n000\r\nA: b\r\n\r\n',
    ):
        raw.send(CALL + b"Content-Type: application/json\r\n" + lines)
        assert raw.answer().body == b"11"
    raw.send(b"GET http://LOCALHOST/livez?a HTTP/1.1\r\n" + HOST + b"\r\n")
    assert raw.answer().status == 200
    raw.send(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert raw.answer().headers["connection"] == "close"
    assert raw.closes_within(10)


def test_a_flood_of_junk_writes_few_lines(attacked: Tree, connect: Connect) -> None:
    before, began, sent = refusals(attacked), time.monotonic(), 0
    while len(refusals(attacked)) < len(before) + 2:
        for _ in range(20):
            raw = connect(attacked)
            raw.send(b"junk\r\n\r\n")
            assert raw.answer().status == 400
            raw.close()
            sent += 1
        assert time.monotonic() - began < LIMIT_S
    fresh = refusals(attacked)[len(before) :]
    assert sent > 20
    assert len(fresh) <= time.monotonic() - began + 1
    assert all("127.0.0.1:" in line for line in fresh)
    assert "more like it" in fresh[-1]


def refusals(tree: Tree) -> list[str]:
    """The lines of the log about requests that were refused."""
    return [line for line in tree.output.splitlines() if "a request was refused" in line]
