"""Calls at a fixed rate, and which versions were in production meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.rate import Rate, Timed
from bench.swaps import Production


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("X-Skipper-Model", "boston@7")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_every_call_that_is_due_is_made_and_timed_from_then_on(port: int) -> None:
    seen = threading.Event()
    with Rate(port=port, path="/", body="{}", per_s=200).kept() as calls:
        seen.wait(0.3)
    assert {call.status for call in calls} == {200}
    steps = {round((call.due - calls[0].due) * 200) for call in calls}
    assert steps == {*range(len(calls))}
    assert all(call.took_s > 0 for call in calls)
    assert calls[0].headers["x-skipper-model"] == "boston@7"


def test_a_call_without_an_answer_counts_as_one() -> None:
    seen = threading.Event()
    with Rate(port=1, path="/", body="{}", per_s=200).kept() as calls:
        seen.wait(0.2)
    assert calls
    assert {call.status for call in calls} == {0}


@pytest.mark.parametrize(
    ("version", "due", "ended", "is_right"),
    [
        (1, 0.5, 0.6, True),
        (2, 0.5, 0.6, False),  # not asked for yet
        (1, 1.1, 1.2, True),  # the change is under way
        (2, 1.1, 1.2, True),
        (1, 0.9, 1.5, True),
        (1, 1.31, 1.4, False),  # the change has been answered
        (2, 1.31, 9.0, True),
    ],
)
def test_a_version_is_right_where_it_may_have_been_in_production(
    version: int, due: float, ended: float, *, is_right: bool
) -> None:
    production = Production([(0.0, 0.1, 1), (1.0, 1.3, 2)])
    call = Timed(due=due, ended=ended, status=200, headers={})
    assert production.was(version, call) is is_right
