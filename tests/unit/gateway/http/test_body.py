"""Bodies by length and in chunks, cut wherever segments end."""

from __future__ import annotations

import pytest

from skipper.gateway.http.body import Body, Chunked, Counted
from skipper.gateway.http.head import RefusedError

CHUNKS = b'5;a="b"\r\nhello\r\n1\r\n,\r\n006\r\n world\r\n0\r\nA: b\r\n\r\nnext'


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("framing", "data", "content"),
    [(lambda: Counted(5), b"hellonext", b"hello"), (Chunked, CHUNKS, b"hello, world")],
)
def test_a_body_ends_where_it_says(framing: type, data: bytes, content: bytes, size: int) -> None:
    body, at = Body(framing()), 0
    while not body.is_whole:
        at += body.feed(data[at : at + size])
    assert body.take() == content
    assert data[at:] == b"next"
    assert body.take() == b""


def test_a_body_of_no_length_is_whole() -> None:
    assert Body(Counted(0)).is_whole
    assert not Body(Chunked()).is_whole


def test_what_is_taken_makes_room() -> None:
    body = Body(Counted(100))
    body.limit = 10
    body.feed(b"x" * 10)
    assert (body.size, body.is_full, body.rest) == (10, True, 90)
    assert body.take() == b"x" * 10
    assert (body.size, body.is_full) == (0, False)


def test_what_nobody_wants_is_not_kept() -> None:
    body = Body(Counted(10))
    body.feed(b"12345")
    body.throw_away()
    assert body.feed(b"67890next") == 5
    assert (body.is_whole, body.size) == (True, 0)


def feed(body: Body, data: bytes, size: int) -> None:
    """Receive ``data`` in segments of ``size``, until the body is whole."""
    for at in range(0, len(data), size):
        if not body.is_whole:
            body.feed(data[at : at + size])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n", 400),
        (b"g\r\n", 400),
        (b"5\n", 400),
        (b"123456789\r\n", 400),
        (b"1\r\nxy\r\n", 400),
        (b"1\r\nx\n", 400),
        (b"0\r\n: b\r\n", 400),
        (b"1;" + b"x" * 2000, 431),
        (b"1;%b\r\nx\r\n" % (b"x" * 1000) * 70, 431),
        (b"0\r\n" + b"A: b\r\n" * 101, 431),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_chunks_that_break_the_rules_are_refused(data: bytes, status: int, size: int) -> None:
    with pytest.raises(RefusedError) as caught:
        feed(Body(Chunked()), data, size)
    assert caught.value.kind.status == status


def test_trailers_count_to_the_head() -> None:
    body = Body(Chunked(size=60_000, lines=99))
    body.feed(b"0\r\nA: b\r\n")
    with pytest.raises(RefusedError):
        body.feed(b"A: b\r\n")
