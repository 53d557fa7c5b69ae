"""A large body that is received straight into a buffer is the one that was sent."""

from __future__ import annotations

import asyncio

import pytest

from skipper.gateway.http.asgi import AsgiView, GoneError
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.landing import Landing
from skipper.gateway.http.limits import PIECES
from tests.unit.gateway.http.line import GET, Answering, Caller

BODY = bytes(range(256)) * 4096  # 1 MiB


def head(length: int = len(BODY), more: str = "") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{more}\r\n".encode()


class Taking(Answering):
    """Answers with a body's size, and keeps the body, and how much of it lay here at once."""

    def __init__(self) -> None:
        super().__init__(self._take)
        self.taken: list[bytes] = []
        self.largest = 0
        self.gone = 0

    def _take(self, exchange: Exchange) -> None:
        exchange.run(self._taking(exchange))

    async def _taking(self, exchange: Exchange) -> None:
        whole = b""
        try:
            async for piece in AsgiView(exchange).pieces():
                self.largest = max(self.largest, len(piece))
                whole += piece
        except GoneError:
            self.gone += 1
            return
        self.taken.append(whole)
        exchange.respond(200, [], str(len(whole)).encode())


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [1000, 65_536, 250_000])
async def test_it_is_what_was_sent_however_it_comes(size: int) -> None:
    service = Taking()
    caller = Caller(service)
    caller.send(head())
    for at in range(0, len(BODY), size):
        caller.send(BODY[at : at + size])
        if at % 7 == 0:
            await settled()
    await settled()
    assert service.taken == [BODY]
    assert service.largest <= PIECES
    assert caller.answer().body == str(len(BODY)).encode()


async def test_what_comes_with_the_head_is_the_beginning_of_it() -> None:
    service = Taking()
    caller = Caller(service)
    caller.send(head() + BODY[:100_000])
    await settled()
    caller.send(BODY[100_000:])
    await settled()
    assert service.taken == [BODY]


async def test_the_request_after_it_is_the_next() -> None:
    service = Taking()
    caller = Caller(service)
    caller.send(head())
    await settled()
    caller.send(BODY + head() + BODY[:70_000])
    await settled()
    caller.send(BODY[70_000:] + GET)
    await settled()
    assert service.taken == [BODY, BODY, b""]
    assert [answer.status for answer in caller.answers()] == [200] * 3


async def test_no_more_is_received_than_fits() -> None:
    service = Answering(lambda exchange: exchange.land_body())
    caller = Caller(service)
    caller.send(head())
    caller.send(BODY)
    assert caller.transport.is_paused
    (exchange,) = service.seen
    assert exchange.body.size == PIECES
    exchange.give_back_body(exchange.lend_body())
    await settled()
    assert bytes(exchange.lend_body()) == BODY[PIECES : 2 * PIECES]


async def test_what_is_lent_stays_while_more_comes() -> None:
    service = Answering(lambda exchange: exchange.land_body())
    caller = Caller(service)
    caller.send(head())
    caller.send(BODY[:1000])
    (exchange,) = service.seen
    lent = exchange.lend_body()
    caller.send(BODY[1000:5000])
    assert bytes(lent) == BODY[:1000]
    exchange.give_back_body(lent)
    assert bytes(exchange.lend_body()) == BODY[1000:5000]


async def test_of_a_caller_that_leaves_nothing_more_is_awaited() -> None:
    service = Taking()
    caller = Caller(service)
    caller.send(head())
    await settled()
    caller.send(BODY[:300_000])
    caller.leave()
    await settled()
    assert (service.taken, service.gone) == ([], 1)


async def test_what_nobody_wants_any_more_is_thrown_away() -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.land_body()
        exchange.respond(400, [], b"no")

    service = Answering(refuse)
    caller = Caller(service)
    caller.send(head(70_000))
    caller.send(BODY[:70_000] + GET)
    await settled()
    assert caller.answers()[0].status == 400
    (first, *_) = service.seen
    assert first.body.size == 0


async def test_with_tls_it_comes_in_pieces() -> None:
    service = Taking()
    caller = Caller(service)
    caller.connection.peer.scheme = "https"
    caller.send(head())
    await settled()
    assert not isinstance(caller.transport.protocol, asyncio.BufferedProtocol)
    for at in range(0, len(BODY), 65_536):
        caller.send(BODY[at : at + 65_536])
        await settled()
    assert service.taken == [BODY]


def test_a_buffer_is_used_again_when_nothing_of_it_is_lent() -> None:
    first = Landing()
    first.space(3)[:] = b"abc"
    first.filled(3)
    assert bytes(first.lend()) == b"abc"
    first.give_back(3)
    first.end()
    second = Landing()
    assert (second.size, second.room) == (0, PIECES)
    assert len(second.space(1 << 30)) == PIECES


@pytest.mark.parametrize(("scheme", "largest"), [("http", 1 << 20), ("https", 64 << 10)])
async def test_a_mapped_file_goes_out_in_large_pieces_unless_each_becomes_memory(
    scheme: str, largest: int
) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.respond(200, [], memoryview(BODY * 3), is_mapped=True)

    caller = Caller(Answering(answer))
    caller.connection.peer.scheme = scheme
    caller.send(GET)
    assert caller.answer().body == BODY * 3
    assert caller.transport.largest == largest


async def test_what_is_given_back_too_late_changes_nothing() -> None:
    service = Answering(lambda exchange: exchange.land_body())
    caller = Caller(service)
    caller.send(head())
    caller.send(BODY[:1000])
    (exchange,) = service.seen
    lent = exchange.lend_body()
    exchange.respond(400, [], b"no")
    exchange.give_back_body(lent)
    assert exchange.body.size == 0
