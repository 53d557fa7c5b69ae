"""How many connections there may be, who makes room, and who is noticed to have left."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from skipper.gateway.http import limits
from skipper.gateway.http.connections import Connections
from skipper.gateway.http.limits import Limits
from skipper.gateway.http.refusals import Complaints
from tests.unit.gateway.http.line import GET, Answering, Caller, plenty, with_path
from tests.unit.gateway.played import settle


async def test_the_longest_waiting_makes_room() -> None:
    all_ = Connections(Limits(connections=3), plenty())
    service = Answering(with_path)
    first, second, third = [Caller(service, connections=all_) for _ in range(3)]
    first.send(GET)
    fourth = Caller(service, connections=all_)
    assert [each.is_cut for each in (first, second, third, fourth)] == [False, True, False, False]
    second.send(GET)
    fourth.send(GET)
    assert (second.answers(), fourth.answer().status) == ([], 200)
    await settle()
    assert len(all_.open) == 3


async def test_where_all_are_busy_the_newcomer_is_told_so() -> None:
    all_ = Connections(Limits(connections=2), plenty())
    service = Answering()
    for _ in range(2):
        Caller(service, connections=all_).send(GET)
    newcomer = Caller(service, connections=all_)
    newcomer.send(GET)
    answer = newcomer.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "gateway.connections" in answer.body.decode()
    assert newcomer.is_cut
    assert len(service.seen) == 2


async def test_half_heads_go_before_they_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipper.gateway.http.connections.HEADS_BYTES", 200_000)
    all_ = Connections(Limits(), plenty())
    callers = [Caller(Answering(with_path), connections=all_) for _ in range(10)]
    half = GET[:-2] + b"A: " + b"x" * 50_000
    for caller in callers:
        caller.send(half)
    assert [caller.is_cut for caller in callers] == [True] * 7 + [False] * 3
    callers[-1].send(b"\r\n\r\n")
    assert callers[-1].answer().status == 200
    assert limits.HEADS_BYTES > 100 * limits.HEAD_BYTES


class Unread:
    """A connection of a real socket that is not read."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.has_left = False

    @property
    def descriptor(self) -> int:
        return self.ours.fileno()

    def check(self, now: float, limits: Limits) -> None:
        pass

    def make_room(self) -> None:
        pass

    def cut(self) -> None:
        pass

    def leave(self) -> None:
        self.has_left = True


def test_whoever_leaves_an_unread_connection_is_noticed() -> None:
    all_, both = Connections(Limits(), plenty()), [Unread(), Unread()]
    for each in both:
        each.theirs.send(b"what nobody reads")
        all_.admit(each)
        all_.is_read(each, is_read=False)
    both[0].theirs.close()
    all_.look(0.0)
    assert [each.has_left for each in both] == [True, False]
    for each in both:
        each.ours.close()
        each.theirs.close()


def test_one_line_a_second_tells_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    complaints = Complaints(clock=lambda: now[0])
    for second in range(3):
        now[0] = second * 1.1
        for _ in range(100):
            complaints.add("junk", "192.0.2.1:4711", "no")
        complaints.add("late", "192.0.2.1:4711")
    lines: list[Any] = [record.getMessage() for record in caplog.records]
    assert lines[:2] == ["junk: 192.0.2.1:4711: no", "late: 192.0.2.1:4711"]
    assert lines[2] == "junk: 192.0.2.1:4711: no (99 more like it since the last such line)"
    assert len(lines) == 6
