"""A line for each request: https://github.com/bentoml/BentoML/issues/2268"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from skipper import problems
from skipper.gateway.answers import problem_response, respond
from skipper.gateway.http.access_log import MAX_PATH, AccessLog
from skipper.gateway.http.connections import Connections
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.limits import Limits
from skipper.gateway.problems import Problem
from tests.unit.gateway.http.line import Answering, Caller, plenty, with_body, with_path

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What has been logged of requests."""
    caplog.set_level(logging.INFO, "skipper.access")
    kept = ("message", "status", "ms", "request", "cut")
    return lambda: [
        {name: value for name, value in vars(record).items() if name in kept}
        for record in caplog.records
        if vars(record).get("event") == "access"
    ]


def caller(answer: Callable[[Exchange], None] | None, limits: Limits | None = None) -> Caller:
    access_log = AccessLog(lambda: 1e9)
    all_ = Connections(limits or Limits(), plenty(), access_log=access_log)
    return Caller(Answering(answer), connections=all_)


def refused(exchange: Exchange) -> None:
    respond(exchange, problem_response(Problem(problems.UNAUTHORISED, "no key")))


def streamed(exchange: Exchange) -> None:
    exchange.start(200, [])
    exchange.write(b"1")
    exchange.write(b"2")


async def test_each_has_path_status_milliseconds_and_id(lines: Lines) -> None:
    at = caller(with_path)
    at.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n")
    at.send(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    first, second = lines()
    assert first["ms"] > 0
    assert first | {"ms": 0} == {"message": "GET /a", "status": 200, "ms": 0, "request": "mine"}
    assert second["message"] == "GET /b"
    assert second["request"] == at.answers()[1].headers["x-request-id"]


async def test_it_comes_when_the_answer_is_over_and_not_before(lines: Lines) -> None:
    at = caller(with_body)
    at.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
    assert lines() == []
    at.send(b"2")
    assert [each["status"] for each in lines()] == [200]


async def test_a_stream_has_one_at_its_end(lines: Lines) -> None:
    at = caller(streamed)
    at.send(b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n")
    assert lines() == []
    at.connection._service.seen[0].end()  # type: ignore[attr-defined] # the stand-in's
    assert [(each["status"], each.get("cut")) for each in lines()] == [(200, None)]


async def test_who_is_refused_has_one(lines: Lines) -> None:
    caller(refused).send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [each["status"] for each in lines()] == [401]


@pytest.mark.parametrize(
    ("sent", "message", "status"),
    [
        (b"GET\r\n\r\n", "no request", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "no request", 400),
        (
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /a",
            400,
        ),
    ],
)
async def test_what_is_no_request_has_one(
    lines: Lines, sent: bytes, message: str, status: int
) -> None:
    at = caller(with_body)
    at.send(sent)
    (line,) = lines()
    assert (line["message"], line["status"]) == (message, status)
    assert line["request"] == at.answer().headers["x-request-id"]


async def test_no_room_for_a_connection_is_one(lines: Lines) -> None:
    caller(with_path, Limits(connections=0))
    assert [(each["message"], each["status"]) for each in lines()] == [("no request", 503)]


@pytest.mark.parametrize(
    ("answer", "status", "cut"),
    [(streamed, 200, "amid its answer"), (None, 0, "before its answer")],
)
async def test_what_is_broken_off_is_told(
    lines: Lines, answer: Callable[[Exchange], None] | None, status: int, cut: str
) -> None:
    at = caller(answer)
    at.send(b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n")
    at.connection.connection_lost(None)
    assert [(each["status"], each["cut"]) for each in lines()] == [(status, cut)]


async def test_the_gateways_own_end_of_a_stream_is_told(lines: Lines) -> None:
    at = caller(streamed)
    at.send(b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n")
    at.connection._service.seen[0].break_off()  # type: ignore[attr-defined] # the stand-in's
    at.connection.connection_lost(None)
    assert [each["cut"] for each in lines()] == ["amid its answer"]


async def test_no_query_header_or_body_is_in_it_and_a_long_path_is_cut(lines: Lines) -> None:
    at = caller(with_body)
    path = b"/" + b"p" * 2 * MAX_PATH
    headers = b"Host: x\r\nX-API-Key: s3cret\r\nContent-Length: 6\r\n\r\n"
    at.send(b"POST %b?k=s3cret HTTP/1.1\r\n%bs3cret" % (path, headers))
    (line,) = lines()
    assert "s3cret" not in str(line)
    assert len(line["message"]) < MAX_PATH + 10


async def test_without_a_log_nothing_is_written(lines: Lines) -> None:
    Caller(Answering(with_path)).send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert lines() == []
