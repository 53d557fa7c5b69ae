"""What an ASGI application sees of an exchange, and what becomes of what it sends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skipper.gateway.budget import SMALL, Budget, Use
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.problems import Problem
from tests.unit.gateway.http.line import GET, Answering, Caller
from tests.unit.gateway.played import settle

POST = b"POST /p%20q?x=1 HTTP/1.1\r\nHost: here\r\nX-Request-Id: mine\r\nContent-Length: 5\r\n\r\n"
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def serving(app: Any, budget: Budget | None = None) -> Caller:
    """A caller of ``app``."""

    def begin(exchange: Exchange) -> None:
        asgi.answer(app, exchange)

    return Caller(Answering(begin), budget=budget)


def sending(*messages: dict[str, Any]) -> Caller:
    """A caller of an application that sends these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return serving(app)


async def test_an_application_sees_the_request() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, await receive(), await receive()])
        await send(START)
        await send(body(b"done"))
        seen.append(await receive())

    caller = serving(app)
    caller.send(POST, b"he")
    await settle()
    caller.send(b"llo")
    await settle()
    assert (caller.answer().body, caller.answer().headers["x-request-id"]) == (b"done", "mine")
    scope = seen[0]
    assert (scope["type"], scope["method"], scope["http_version"]) == ("http", "POST", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/p q", b"/p%20q", b"x=1")
    assert (scope["scheme"], scope["client"]) == ("http", ("192.0.2.1", 4711))
    assert [each["body"] for each in seen[1:3]] == [b"he", b"llo"]
    assert [each["more_body"] for each in seen[1:3]] == [True, False]
    assert seen[3] == {"type": "http.disconnect"}


async def test_what_an_application_does_not_read_is_not_received() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send(START)
        await send(body(b"%d" % size))

    caller = serving(app)
    caller.send(POST.replace(b"5\r\n", b"200000\r\n"), b"x" * 100_000)
    await settle()
    assert caller.transport.is_paused
    go_on.set()
    await settle()
    assert not caller.transport.is_paused
    caller.send(b"x" * 100_000)
    await settle()
    assert caller.answer().body == b"200000"


async def test_an_answer_without_a_length_comes_in_chunks() -> None:
    caller = sending(START, body(b"one ", more=True), body(b"", more=True), body(b"two"))
    caller.send(GET, GET)
    await settle()
    assert [each.body for each in caller.answers()] == [b"one two", b"one two"]


async def test_to_an_old_client_it_ends_with_the_connection() -> None:
    caller = sending(START, body(b"one ", more=True), body(b"two"))
    caller.send(b"GET / HTTP/1.0\r\n\r\n")
    await settle()
    answer = caller.answer()
    assert (answer.body, answer.headers.get("transfer-encoding")) == (b"one two", None)
    assert caller.is_cut


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_an_answer_that_has_no_body_has_none(status: int) -> None:
    method = "HEAD" if status == 200 else "GET"
    caller = sending(START | {"status": status}, body(b"not sent"))
    caller.send(GET.replace(b"GET", method.encode()), GET.replace(b"GET", method.encode()))
    await settle()
    assert [each.status for each in caller.answers(method)] == [status, status]


async def test_a_caller_that_does_not_read_is_waited_for() -> None:
    sent: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for n in range(50):
            await send(body(b"x" * 10_000, more=True))
            sent.append(n)
        await send(body(b""))

    caller = serving(app)
    caller.transport.is_read = False
    caller.send(GET)
    await settle()
    assert len(sent) < 20
    while len(sent) < 50:
        caller.transport.reads(100_000)
        await settle()
    assert len(caller.answer().body) == 500_000


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("no")


async def does_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.mark.parametrize("app", [raises, does_nothing])
async def test_an_application_that_fails_is_an_internal_error(app: Any) -> None:
    caller = serving(app)
    caller.send(GET)
    await settle()
    answer = caller.answer()
    assert (answer.status, b"internal-error" in answer.body) == (500, True)
    assert not caller.is_cut


@pytest.mark.parametrize(
    "messages",
    [
        (START | {"headers": [(b"content-length", b"5")]}, body(b"123")),
        (START | {"headers": [(b"content-length", b"5")]}, body(b"123456")),
        (START, body(b"half", more=True)),
        (START, body(b"half", more=True), START),
    ],
)
async def test_an_answer_that_goes_wrong_is_broken_off(messages: tuple[dict[str, Any]]) -> None:
    caller = sending(*messages)
    caller.send(GET)
    await settle()
    assert caller.transport.is_aborted


@pytest.mark.parametrize(
    "header", [(b"a", b"b\r\nc: d"), (b"a\r\nb", b"c"), (b"a", b"b\x00"), (b"", b"c")]
)
async def test_a_header_that_would_be_two_is_not_sent(header: tuple[bytes, bytes]) -> None:
    caller = sending(START | {"headers": [header]}, body(b""))
    caller.send(GET)
    await settle()
    assert caller.answer().status == 500


async def test_a_shutdown_that_waits_no_longer_ends_the_task() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    caller = serving(app)
    caller.send(GET)
    await settle()
    (task,) = caller.connections.tasks
    task.cancel()
    await settle()
    assert caller.answer().status == 503
    assert not caller.connections.tasks


async def test_an_application_whose_caller_leaves_is_told_and_writes_to_nobody() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())
        await send(START)
        await send(body(b"late"))

    caller = serving(app)
    caller.send(GET)
    await settle()
    caller.transport.abort()
    await settle()
    assert seen == [{"type": "http.disconnect"}]
    assert not caller.transport.out
    assert not caller.connections.tasks


# --- memory ------------------------------------------------------------------------------------

LARGE = 200_000


def large(caller: Caller, size: int = LARGE) -> None:
    """Send the head of a request with a large body."""
    caller.send(POST.replace(b"5\r\n", b"%d\r\n" % size))


async def length(scope: Any, receive: Any, send: Any) -> None:
    """Answer with how many bytes came, or with the problem that they were."""
    size, more = 0, True
    try:
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
    except Problem as problem:
        await send(START | {"status": problem.kind.status})
        await send(body(problem.detail.encode()))
    else:
        await send(START)
        await send(body(b"%d" % size))


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """Answer with much."""
    await send(START | {"headers": [(b"content-length", b"%d" % LARGE)]})
    await send(body(b"x" * LARGE))


async def test_a_large_body_is_received_once_there_is_room_for_it() -> None:
    budget = Budget(LARGE, LARGE)
    with budget.answer(LARGE, lambda: None):
        caller = serving(length, budget)
        large(caller)
        await settle()
        caller.send(b"x" * SMALL)
        await settle()
        assert caller.transport.is_paused
    await settle()
    assert not caller.transport.is_paused
    assert budget.taken(Use.BODY) == LARGE
    caller.send(b"x" * (LARGE - SMALL))
    await settle()
    assert caller.answer().body == b"%d" % LARGE
    assert budget.taken(Use.BODY) == 0


async def test_a_small_body_needs_no_room() -> None:
    budget = Budget(LARGE, LARGE)
    budget.answer(LARGE, lambda: None)
    caller = serving(length, budget)
    large(caller, SMALL - 1)
    caller.send(b"x" * (SMALL - 1))
    await settle()
    assert caller.answer().status == 200


async def test_a_body_that_waits_in_vain_is_answered_with_503() -> None:
    budget = Budget(LARGE, LARGE, patience_s=0.0)
    budget.answer(LARGE, lambda: None)
    caller = serving(length, budget)
    large(caller)
    await settle()
    budget.look()
    await settle()
    assert caller.answer().status == 503
    assert caller.is_cut


async def test_a_caller_who_leaves_while_it_waits_for_room_waits_no_more() -> None:
    budget = Budget(LARGE, LARGE)
    with budget.answer(LARGE, lambda: None):
        caller = serving(length, budget)
        large(caller)
        await settle()
        assert budget.waiting == 1
        caller.connection.connection_lost(None)
        await settle()
        assert budget.waiting == 0
    assert budget.taken(Use.BODY) == 0


async def test_a_body_that_is_cut_for_others_is_answered_with_503() -> None:
    budget = Budget(LARGE, LARGE, stall_s=0.0)
    caller = serving(length, budget)
    large(caller, 100_000)
    await settle()
    budget.answer(LARGE, lambda: None)
    await settle()
    answer = caller.answer()
    assert (answer.status, b"gateway.memory_mb" in answer.body) == (503, True)
    assert budget.taken(Use.BODY) == 0


async def test_an_answer_takes_room_until_its_caller_has_read_it() -> None:
    budget = Budget(LARGE, LARGE)
    caller = serving(answers, budget)
    caller.transport.is_read = False
    caller.send(GET)
    await settle()
    assert budget.taken(Use.ANSWER) == LARGE
    while caller.transport.get_write_buffer_size():
        caller.transport.reads(LARGE)
        await settle()
    assert budget.taken(Use.ANSWER) == 0
    assert len(caller.answer().body) == LARGE


async def test_an_answer_that_cannot_be_held_becomes_a_503() -> None:
    budget = Budget(LARGE, LARGE)
    budget.answer(1, lambda: None)
    caller = serving(answers, budget)
    caller.send(GET)
    await settle()
    answer = caller.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert b"gateway.memory_mb" in answer.body
    assert not caller.is_cut


async def test_who_does_not_read_is_cut_for_the_answer_of_another() -> None:
    budget = Budget(LARGE, LARGE, stall_s=0.0)
    unread, reading = serving(answers, budget), serving(answers, budget)
    unread.transport.is_read = False
    unread.send(GET)
    await settle()
    reading.send(GET)
    await settle()
    assert unread.transport.is_aborted
    assert reading.answer().status == 200


async def test_a_part_that_cannot_be_held_is_a_problem_for_who_sends_it() -> None:
    caught: list[Problem] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            await send(body(b"x" * LARGE, more=True))
        except Problem as problem:
            caught.append(problem)
        await send(body(b"the end"))

    budget = Budget(LARGE, LARGE)
    budget.answer(1, lambda: None)
    caller = serving(app, budget)
    caller.send(GET)
    await settle()
    assert len(caught) == 1
    assert caller.answer().body == b"the end"


async def test_a_caller_who_leaves_gives_its_room_back() -> None:
    budget = Budget(LARGE, LARGE)
    caller = serving(answers, budget)
    caller.transport.is_read = False
    caller.send(GET)
    await settle()
    caller.connection.connection_lost(None)
    await settle()
    assert budget.taken(Use.ANSWER) == 0
