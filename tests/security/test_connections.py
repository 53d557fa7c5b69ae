"""Connections that cost their callers nothing cost the gateway little, and end."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import Grow
from tests.acceptance.tree import CPU_ALONE, LIMIT_S, Tree, lent, project, until
from tests.security.conftest import Connect
from tests.security.raw import Raw

HASTY = """
[gateway]
head_timeout_s = 1
stall_timeout_s = 2
"""
FUNCTIONS = """
import asyncio
import skipper

@skipper.data
def large() -> str:
    return "x" * 20_000_000

@skipper.data
async def floods():
    while True:
        yield "x" * 1_000_000
        await asyncio.sleep(0)

@skipper.data
def size(text: str = "") -> int:
    return len(text)

@skipper.data
async def ticks(count: int):
    for n in range(count):
        await asyncio.sleep(0.5)
        yield n
"""
UNREAD = "an answer was not read in time: 127.0.0.1:"
CALL = b"POST /v1/functions/f.%b/invoke HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree that waits for its callers for seconds only."""
    folder = project(tmp_path_factory.mktemp("hasty"), HASTY, f=FUNCTIONS)
    with lent(Tree(folder, *CPU_ALONE)) as tree:
        tree.ready()
        assert tree.value("f.size") == 0
        yield tree
        tree.end()


HALVES = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n",
    "half a line": b"GET /livez HT",
    "half a head": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n",
    "no body": CALL % b"size" + JSON + b"Content-Length: 10\r\n\r\n",
    "half a body": CALL % b"size" + JSON + b"Content-Length: 10\r\n\r\n{",
    "half a chunk": CALL % b"size" + JSON + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{",
    "no last chunk": CALL % b"size" + JSON + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "half a body of a function that is not there": CALL % b"none"
    + b"Content-Length: 100000\r\n\r\n{",
    "half a body for a route that reads none": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 10\r\n\r\n{",
}


def test_who_sends_half_of_something_is_closed(hasty: Tree, connect: Connect) -> None:
    waiting = {what: connect(hasty) for what in HALVES}
    for what, raw in waiting.items():
        raw.send(HALVES[what])
    for what, raw in waiting.items():
        assert raw.closes_within(LIMIT_S), what
    assert "a request did not come in time: 127.0.0.1:" in hasty.output


@pytest.mark.parametrize(
    ("function", "accept"), [(b"large", b"*/*"), (b"floods", b"text/event-stream")]
)
def test_who_does_not_read_its_answer_is_cut_off(
    hasty: Tree, connect: Connect, function: bytes, accept: bytes
) -> None:
    before = hasty.output.count(UNREAD)
    raw = connect(hasty, receive_buffer=4096)
    raw.send(CALL % function + b"Accept: %b\r\nContent-Length: 0\r\n\r\n" % accept)
    until(lambda: hasty.output.count(UNREAD) > before, what="its end")
    assert raw.closes_within(LIMIT_S)


def test_who_sends_slowly_and_gets_on_is_answered(hasty: Tree, connect: Connect) -> None:
    raw = connect(hasty)
    body = b'{"text": "' + b"x" * 200_000 + b'"}'
    raw.send(CALL % b"size" + JSON + b"Content-Length: %d\r\n\r\n" % len(body))
    for at in range(0, len(body), 20_000):
        with contextlib.suppress(TimeoutError):  # nothing comes: it is a pause of half a second
            raw.closes_within(0.5)
        raw.send(body[at : at + 20_000])
    assert raw.answer().body == b"200000"


def test_a_stream_lasts_as_long_as_it_is_read(hasty: Tree) -> None:
    with hasty.http.stream(
        "POST",
        "/v1/functions/f.ticks/invoke",
        json={"count": 8},
        headers={"Accept": "application/jsonl"},
    ) as response:
        assert list(response.iter_lines()) == [str(n) for n in range(8)]


def test_more_idle_connections_than_descriptors_shut_nobody_out(
    grow: Grow, tmp_path: Path, connect: Connect
) -> None:
    folder = project(tmp_path, f=FUNCTIONS)
    tree = grow(folder, "--only", "gateway,pool:cpu")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        tree.launch()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    tree.wait_for_answers()
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.callback(Raw(tree.url).close)
        answer = connect(tree).request("GET", "/livez")
        assert answer.status == 200
    tree.end()


def test_where_there_are_too_many_the_longest_idle_makes_room(
    grow: Grow, tmp_path: Path, connect: Connect
) -> None:
    folder = project(tmp_path, "[gateway]\nconnections = 20\n", f=FUNCTIONS)
    tree = grow(folder, "--only", "gateway,pool:cpu").start()
    idle = [connect(tree) for _ in range(30)]
    assert connect(tree).request("GET", "/livez").status == 200
    assert idle[0].closes_within(LIMIT_S)
    tree.wait_for_functions()
    busy = [connect(tree) for _ in range(20)]
    call = CALL % b"ticks" + JSON + b'Content-Length: 15\r\n\r\n{"count": 1000}'
    for raw in busy:
        raw.send(call)
    newcomer = connect(tree)
    answer = newcomer.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert newcomer.closes_within(LIMIT_S)
    until(lambda: "no room for another connection: 127.0.0.1:" in tree.output, what="a log line")
    busy[0].close()
    until(tree.is_alive, what="an answer, now that there is room")
    for raw in busy:
        raw.close()
    tree.end()


@pytest.mark.parametrize("more", [1, 1000])
def test_a_caller_that_pipelines_and_leaves_is_noticed(hasty: Tree, more: int) -> None:
    """With so much on the way, too, that the gateway has stopped receiving it."""
    body = b'{"count": 1000}'
    call = CALL % b"ticks" + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body
    address = urlsplit(hasty.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as caller:
        caller.sendall(call)
        until(lambda: hasty.pool("cpu")["busy"] == 1, what="the call")
        caller.sendall(call * more)
    what = "the end of the call whose caller has left"
    until(lambda: hasty.pool("cpu")["busy"] == 0, 5, what)
    assert "Traceback" not in hasty.output
