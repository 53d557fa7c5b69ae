"""What a request's head says, and what is none; its whole grammar is tried in tests/security."""

from __future__ import annotations

import pytest

from skipper.gateway.http.head import Head, HeadReader, RefusedError
from skipper.gateway.http.limits import HEAD_BYTES


def read(data: bytes, size: int = 1 << 20) -> Head | None:
    """The head of ``data``, which comes in segments of ``size``."""
    reader = HeadReader()
    for at in range(0, len(data), size):
        if (found := reader.feed(data[at : at + size])) is not None:
            assert at + found[1] == len(data)
            return found[0]
    return None


def refused(data: bytes) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        read(data)
    return caught.value.kind.status, caught.value.detail


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_head_is_what_its_lines_say(size: int) -> None:
    lines = (
        b"POST /a%20b/%c3%a9?x=%31 HTTP/1.1",
        b"Host: here:80",
        b"Content-LENGTH:  5 \t",
        b"expect: 100-Continue",
        b"connection: Keep-Alive , CLOSE",
    )
    data = b"\r\n".join([*lines, b"", b""])
    head = read(data, size)
    assert head is not None
    assert (head.method, head.version) == ("POST", "1.1")
    assert (head.path, head.raw_path, head.query) == ("/a b/é", b"/a%20b/%c3%a9", b"x=%31")
    assert (head.length, head.is_chunked, head.awaits_continue) == (5, False, True)
    assert not head.keeps_alive
    assert head.header(b"content-length") == b"5"
    assert head.header(b"accept") == b""
    assert (head.size, head.lines) == (len(data), 5)


@pytest.mark.parametrize("target", [b"http://here/p?q", b"HTTP://HERE/p?q", b"https://here/p?q"])
def test_a_path_may_name_the_host_again(target: bytes) -> None:
    head = read(b"GET %b HTTP/1.1\r\nHost: here\r\n\r\n" % target)
    assert head is not None
    assert (head.path, head.query) == ("/p", b"q")


def test_of_a_host_alone_the_path_is_the_root() -> None:
    head = read(b"GET http://here?q HTTP/1.1\r\nHost: here\r\n\r\n")
    assert head is not None
    assert (head.path, head.query) == ("/", b"q")


def test_a_head_that_has_not_ended_is_not_there_yet() -> None:
    assert read(b"GET / HTTP/1.1\r\nHost: here\r\n\r", 1) is None
    assert read(b"\r\n\r\n") is None


def test_an_old_client_needs_no_host_and_is_not_kept() -> None:
    head = read(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert head is not None
    assert not head.keeps_alive


def test_a_refusal_says_what_is_wrong() -> None:
    start = b"GET / HTTP/1.1\r\n"
    assert refused(start + b"Host: a\r\nHost: b\r\n\r\n") == (
        400,
        "send one Host header; this request has 2",
    )
    assert refused(start + b"\r\n")[1] == "send one Host header; this request has none"
    assert refused(b"GET / HTTP/2.0\r\n\r\n")[1] == "this is HTTP/2.0; send HTTP/1.1"
    status, detail = refused(start + b"A: " + b"x" * HEAD_BYTES)
    assert (status, detail) == (431, "a head has at most 64 KiB and 100 lines")


def test_one_reader_reads_head_after_head() -> None:
    reader = HeadReader()
    for path in (b"/a", b"/b"):
        found = reader.feed(b"\r\nGET %b HTTP/1.1\r\nHost: here\r\n\r\nrest" % path)
        assert found is not None
        assert found[0].raw_path == path
        assert reader.size == 0
