"""Inputs are judged as a call with them would be, and nothing runs."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import skipper
from skipper.instance import checks
from skipper.instance.link import HostGoneError, HostLink
from skipper.outcomes import Outcome
from skipper.wire import calls
from skipper.wire.calls import CallHead
from skipper.wire.frames import Frame, FrameKind, Splitter, pack

CODE = "c0dec0dec0de"
ran: list[object] = []


class Odd(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _breaks(cls, value: int) -> int:
        if value < 0:
            raise KeyError(value)
        return value


@skipper.training
def train(x: int, y: str = "") -> None:
    ran.append((x, y))


@skipper.inference(batch=4)
def halves(x: list[float]) -> list[float]:
    ran.append(x)
    return x


@skipper.data
def odd(of: Odd) -> None:
    ran.append(of)


def payload(function: str, body: bytes) -> bytes:
    return calls.call_head(CallHead(0, 0, 0, function, "req-1")) + body


class Judge:
    """The process at the other end of a socket pair."""

    def __init__(self) -> None:
        ours, self.host = socket.socketpair()
        self.host.settimeout(10.0)
        judges = checks.checks_of([train, halves, odd], CODE)
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(HostLink(ours), judges))
        self._thread.start()

    def _run(self, link: HostLink, judges: checks.Checks) -> None:
        with pytest.raises(HostGoneError):
            checks.serve(link, judges)
        self.ended.set()

    def replies(self, *sent: bytes) -> list[Frame]:
        self.host.sendall(b"".join(sent))
        splitter, got = Splitter(), list[Frame]()
        while len(got) < len(sent):
            got += splitter.feed(self.host.recv(1 << 16))
        return got

    def close(self) -> None:
        self.host.close()
        self._thread.join(10.0)


@pytest.fixture
def judge() -> Iterator[Judge]:
    judge = Judge()
    yield judge
    judge.close()
    assert judge.ended.is_set()


@pytest.mark.parametrize(
    ("function", "body", "outcome", "words"),
    [
        ("train", {"x": 1}, Outcome.OK, ""),
        ("train", {"x": "1", "y": "b"}, Outcome.OK, ""),
        ("train", {"x": "?"}, Outcome.INVALID, "/x"),
        ("train", {"x": 1, "z": 2}, Outcome.INVALID, "/z"),
        ("train", {}, Outcome.INVALID, "/x"),
        ("halves", {"x": 1.5}, Outcome.OK, ""),
        ("halves", {"items": [{"x": 1}, {"x": "?"}]}, Outcome.OK, ""),
        ("halves", {"x": [1.0]}, Outcome.INVALID, "/x"),
        ("odd", {"n": 1}, Outcome.OK, ""),
        ("odd", {"n": -1}, Outcome.FAILED, "KeyError: -1"),
        ("gone", {}, Outcome.NOT_FOUND, "gone"),
    ],
)
def test_a_body_is_judged_by_its_functions_signature_and_nothing_runs(
    judge: Judge, function: str, body: Any, outcome: Outcome, words: str
) -> None:
    name = f"test_checks.{function}"
    (reply,) = judge.replies(pack(FrameKind.CHECK, 7, payload(name, json.dumps(body).encode())))
    found, served, problem = calls.parse_reply(reply.payload)
    assert (reply.kind, reply.id, found) == (FrameKind.REPLY, 7, outcome)
    assert words in (json.loads(problem)["detail"] if problem else "")
    assert served == (b"" if outcome is Outcome.NOT_FOUND else CODE.encode())
    assert ran == []


@pytest.mark.parametrize("body", [b"{", b"NaN", b'{"x": Infinity}', b"\xff"])
def test_a_body_that_is_no_json_is_refused_as_such(judge: Judge, body: bytes) -> None:
    (reply,) = judge.replies(pack(FrameKind.CHECK, 1, payload("test_checks.train", body)))
    assert reply.payload[0] == Outcome.MALFORMED


def test_many_are_answered_in_turn_and_other_frames_are_passed_over(judge: Judge) -> None:
    good = payload("test_checks.train", b'{"x": 1}')
    sent = [pack(FrameKind.CHECK, number, good) for number in range(1, 4)]
    replies = judge.replies(pack(FrameKind.CANCEL, 1) + sent[0], *sent[1:])
    assert [reply.id for reply in replies] == [1, 2, 3]
