"""One connection: what is one request, what is none, and what becomes of the next."""

from __future__ import annotations

import asyncio

import pytest

from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.limits import Limits
from tests.unit.gateway.http.line import GET, Answering, Caller, with_body, with_path
from tests.unit.gateway.played import settle

POST = b"POST /%b HTTP/1.1\r\nHost: here\r\n%bContent-Length: %d\r\n\r\n"


def post(body: bytes, more: bytes = b"", path: bytes = b"") -> bytes:
    return POST % (path, more, len(body)) + body


# --- one request after the other ---------------------------------------------------------------


async def test_a_request_is_answered_and_the_connection_goes_on() -> None:
    caller = Caller(Answering(with_path))
    caller.send(GET)
    caller.send(GET.replace(b"/ ", b"/again "))
    assert [each.body for each in caller.answers()] == [b"/", b"/again"]
    assert not caller.is_cut


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
async def test_where_it_is_cut_into_segments_is_no_matter(size: int) -> None:
    caller = Caller(Answering(with_body))
    chunked = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    both = post(b"one") + chunked + b"3;a=b\r\ntwo\r\n0\r\nSome: trailer\r\n\r\n" + post(b"three")
    for at in range(0, len(both), size):
        caller.send(both[at : at + size])
        await settle()
    assert [each.body for each in caller.answers()] == [b"one", b"two", b"three"]


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    service = Answering()
    caller = Caller(service)
    caller.send(b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(3)))
    for n in range(3):
        assert len(service.seen) == n + 1, "one at a time"
        with_path(service.seen[n])
        await settle()
    assert [each.body for each in caller.answers()] == [b"/0", b"/1", b"/2"]


async def test_a_caller_that_pipelines_without_end_is_not_read_on() -> None:
    service = Answering()
    caller = Caller(service)
    large = GET.replace(b"\r\n\r\n", b"\r\nA: " + b"x" * 5000 + b"\r\n\r\n")
    caller.send(*[large for _ in range(20)])
    assert caller.transport.is_paused
    for _ in range(20):
        with_path(service.seen[-1])
        await settle()
    assert len(caller.answers()) == 20
    assert not caller.transport.is_paused


# --- upgrades ----------------------------------------------------------------------------------

UPGRADES = [
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"uPGRADE: anything/1\r\ncONNECTION: uPGRADE\r\n",
    b"Upgrade: h2c\r\nUpgrade: TLS/1.0\r\nConnection: keep-alive, Upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Connection: upgrade\r\n",
]


@pytest.mark.parametrize("more", UPGRADES)
async def test_an_offer_to_speak_something_else_changes_nothing(more: bytes) -> None:
    hidden = GET.replace(b"/ ", b"/hidden ")
    length = post(hidden, more)
    head = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n" + more + b"\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    caller = Caller(Answering(with_body))
    cut = len(length) - len(hidden)
    caller.send(length)
    caller.send(length[:cut], length[cut:])
    caller.send(head + chunks)
    caller.send(head, chunks)
    caller.send(GET)
    assert [each.body for each in caller.answers()] == [hidden] * 4 + [b""]


async def test_an_upgrade_that_closes_is_answered_and_closed() -> None:
    caller = Caller(Answering(with_body))
    caller.send(post(b"x", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"))
    assert caller.answer().body == b"x"
    assert caller.is_cut


async def test_connect_is_a_method_like_others() -> None:
    caller = Caller(Answering(with_path))
    caller.send(b"CONNECT /a HTTP/1.1\r\nHost: here\r\n\r\n", GET)
    assert [each.body for each in caller.answers()] == [b"/a", b"/"]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: here\r\nA: " + b"x" * 70_000, 431),
        (b"\r\n" * 40_000, 431),
    ],
)
async def test_junk_is_refused_without_waiting_for_more(sent: bytes, status: int) -> None:
    service = Answering(with_path)
    caller = Caller(service)
    caller.send(sent)
    answer = caller.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    assert caller.is_cut
    caller.send(GET)
    assert service.seen == [], "what follows is thrown away"


async def test_a_body_that_breaks_the_rules_ends_the_exchange() -> None:
    service = Answering()
    caller = Caller(service)
    caller.send(b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n", b"x\r\n")
    assert caller.answer().status == 400
    assert service.seen[0].is_gone
    with_path(service.seen[0])
    assert len(caller.answers()) == 1


# --- answers -----------------------------------------------------------------------------------


async def test_a_large_answer_goes_out_as_it_is_read() -> None:
    caller = Caller(Answering(lambda exchange: exchange.respond(200, [], b"x" * 1_000_000)))
    caller.transport.is_read = False
    caller.send(GET)
    assert len(caller.transport.out) < 300_000
    while caller.transport.get_write_buffer_size():
        caller.transport.reads(100_000)
    assert len(caller.answer().body) == 1_000_000
    assert caller.transport.largest < 300_000


@pytest.mark.parametrize(
    ("head", "is_cut"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\nx", False),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\nx", True),
        (b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (
            b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            True,
        ),
    ],
)
async def test_a_connection_ends_where_the_next_request_would_not_be_found(
    head: bytes, is_cut: bool
) -> None:
    caller = Caller(Answering(with_path))
    caller.send(head)
    (answer,) = caller.answers(head.split()[0].decode())
    assert answer.status == 200
    assert (answer.headers.get("connection") == "close") is is_cut
    assert caller.is_cut is is_cut


async def test_an_unread_rest_of_a_body_is_no_request() -> None:
    caller = Caller(Answering(with_path))
    hidden = GET.replace(b"/ ", b"/hidden ")
    caller.send(POST % (b"", b"", len(hidden)), hidden[:10], hidden[10:], GET)
    assert [each.body for each in caller.answers()] == [b"/", b"/"]


async def test_a_body_is_asked_for_only_when_it_is_wanted() -> None:
    head = b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    caller = Caller(Answering(with_body))
    caller.send(head)
    assert caller.transport.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.send(b"body")
    assert caller.answers()[1].body == b"body"


# --- callers who leave, and shutdowns ----------------------------------------------------------


async def test_whoever_answers_is_told_that_its_caller_has_left() -> None:
    service = Answering()
    caller = Caller(service)
    caller.send(GET + GET)
    told = asyncio.Event()
    service.seen[0].on_change = told.set
    caller.transport.abort()
    await asyncio.wait_for(told.wait(), 10)
    with_path(service.seen[0])
    await settle()
    assert not caller.transport.out
    assert len(service.seen) == 1
    assert not caller.connections.open


async def test_a_shutdown_ends_what_waits_and_lets_answers_be_given() -> None:
    service = Answering()
    busy = Caller(service)
    idle = Caller(service, connections=busy.connections)
    busy.send(GET)
    for connection in list(busy.connections.open):
        connection.shutdown()
    assert (idle.is_cut, busy.is_cut) == (True, False)
    with_path(service.seen[0])
    assert busy.answer().headers["connection"] == "close"
    assert busy.is_cut


async def test_a_service_that_raises_is_an_internal_error() -> None:
    def raises(exchange: Exchange) -> None:
        raise ValueError("no")

    caller = Caller(Answering(raises))
    caller.send(GET)
    assert caller.answer().status == 500


# --- time --------------------------------------------------------------------------------------

LIMITS = Limits(head_s=10, stall_s=60, idle_s=75, linger_s=5)


def ends_at(caller: Caller, *, until: float = 300.0) -> float | None:
    """After how many seconds of nothing it is ended; None where it lives on."""
    start, seconds = asyncio.get_running_loop().time(), 0.0
    while seconds <= until:
        caller.connections.look(start + seconds)
        if caller.transport.is_closed:
            return seconds
        seconds += 0.5
    return None


@pytest.mark.parametrize(
    ("sent", "least", "most"),
    [
        (b"", 10, 12),
        (b"\r\n", 10, 12),
        (b"GET / HT", 10, 12),
        (GET, 75, 77),
        (GET + b"GET", 10, 12),
        (post(b"")[:-2] + b"A: b\r\n", 10, 12),
        (POST % (b"", b"", 10) + b"123", 60, 62),
        (GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12"), 60, 62),
    ],
)
async def test_who_sends_half_of_something_is_waited_for_so_long(
    sent: bytes, least: float, most: float
) -> None:
    caller = Caller(Answering(with_body), LIMITS)
    if sent:
        caller.send(sent)
    await settle()
    ended = ends_at(caller)
    assert ended is not None
    assert least <= ended <= most


async def test_a_slow_upload_that_gets_on_is_let_be() -> None:
    service = Answering(with_body)
    caller = Caller(service, LIMITS)
    caller.send(POST % (b"", b"", 50 * 20_000))
    now = asyncio.get_running_loop().time()
    for _ in range(50):
        caller.send(b"x" * 20_000)
        for _ in range(100):
            now += 0.5
            caller.connections.look(now)
    assert len(caller.answer().body) == 1_000_000


async def test_a_drip_that_gets_nowhere_is_not() -> None:
    caller = Caller(Answering(with_body), LIMITS)
    caller.send(POST % (b"", b"", 50_000))
    now = start = asyncio.get_running_loop().time()
    while not caller.is_cut and now < start + 1000:
        caller.send(b"x")
        now += 1
        caller.connections.look(now)
    assert now - start < 75
    assert caller.answer().status == 408


async def test_who_does_not_read_its_answer_is_cut_off() -> None:
    caller = Caller(Answering(lambda exchange: exchange.respond(200, [], b"x" * 1_000_000)), LIMITS)
    caller.transport.is_read = False
    caller.send(GET)
    ended = ends_at(caller)
    assert ended is not None
    assert 60 <= ended <= 62
    assert caller.transport.is_aborted


async def test_who_reads_slowly_gets_all_of_it() -> None:
    caller = Caller(Answering(lambda exchange: exchange.respond(200, [], b"x" * 1_000_000)), LIMITS)
    caller.transport.is_read = False
    caller.send(GET)
    now = asyncio.get_running_loop().time()
    while caller.transport.get_write_buffer_size():
        now += 50
        caller.connections.look(now)
        caller.transport.reads(20_000)
    assert len(caller.answer().body) == 1_000_000


async def test_an_answer_may_take_as_long_as_it_takes() -> None:
    caller = Caller(Answering(), LIMITS)
    caller.send(post(b"x"))
    assert ends_at(caller, until=3600) is None


async def test_who_waits_to_be_asked_for_its_body_is_not_late() -> None:
    caller = Caller(Answering(), LIMITS)
    caller.send(POST % (b"", b"Expect: 100-continue\r\n", 5))
    assert ends_at(caller) is None


async def test_who_is_refused_and_goes_on_sending_is_cut_off() -> None:
    caller = Caller(Answering(), LIMITS)
    caller.send(b"junk\r\n\r\n")
    assert caller.is_cut
    assert not caller.transport.is_closed
    ended = ends_at(caller)
    assert ended is not None
    assert 5 <= ended <= 7
