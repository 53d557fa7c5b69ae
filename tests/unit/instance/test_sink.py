import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from skipper.instance.link import HostLink
from skipper.instance.sink import HELD, MAX_EVENT, EventSink
from skipper.pace import Pace
from skipper.wire import frames


class Ear:
    """A sink at one end of a socket, and what is heard at the other."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair()
        self.now = 0.0
        self._splitter = frames.Splitter()
        pace = Pace(5, 1, clock=lambda: self.now)
        self.sink = EventSink(HostLink(ours), 7, pace)
        self._ours = ours

    def says(self, *numbers: int, type_: str = "progress") -> None:
        for number in numbers:
            data = {"text": str(number)} if type_ == "log" else {"done": number}
            self.sink.emit({"type": type_, "data": data})

    def heard(self) -> list[Any]:
        """The numbers that have come by now, and what was left out."""
        self._theirs.setblocking(False)
        try:
            received = self._splitter.feed(self._theirs.recv(1 << 20))
        except BlockingIOError:
            return []
        assert {(frame.kind, frame.id) for frame in received} == {(frames.FrameKind.EVENT, 7)}
        said = [json.loads(frame.payload) for frame in received]
        return [
            event["data"]
            if event["type"] == "left_out"
            else int(event["data"].get("done") or event["data"].get("text"))
            for event in said
        ]

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.close()


def test_what_is_said_is_heard_at_once(ear: Ear) -> None:
    ear.says(1, 2)
    assert ear.heard() == [1, 2]


def test_what_is_too_much_waits_for_its_turn(ear: Ear) -> None:
    ear.says(*range(1, 9))
    assert ear.heard() == [1, 2, 3, 4, 5]
    ear.now = 2.0
    ear.says(9)
    assert ear.heard() == [6, 7]


def test_the_last_words_are_heard_at_the_end(ear: Ear) -> None:
    ear.says(*range(1, 9))
    ear.sink.close()
    assert ear.heard() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_of_far_too_much_the_oldest_is_left_out_and_counted(ear: Ear) -> None:
    ear.says(*range(1, 6))
    ear.says(*range(6, 9), type_="log")
    ear.says(*range(9, 9 + HELD))
    ear.sink.close()
    told = ear.heard()
    assert told[:6] == [1, 2, 3, 4, 5, {"lines": 3}]
    assert told[6:] == list(range(9, 9 + HELD))


def test_what_is_far_too_large_is_refused(ear: Ear) -> None:
    with pytest.raises(ValueError, match="of progress: say figures"):
        ear.sink.emit({"type": "progress", "data": {"note": "x" * MAX_EVENT}})
    assert ear.heard() == []
