import socket
from collections.abc import Iterator

import pytest

from skipper.instance.link import HostLink
from skipper.instance.sink import HELD, MAX_EVENT, EventSink
from skipper.pace import Pace
from skipper.wire import frames
from skipper.wire.events import EmittedEvent, InstanceEvent, LeftOut, parse_event


class Outlet:
    """A sink at one end of a socket, and what comes out at the other."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair()
        self.now = 0.0
        self._splitter = frames.Splitter()
        pace = Pace(5, 1, clock=lambda: self.now)
        self.sink = EventSink(HostLink(ours), 7, pace)
        self._ours = ours

    def emit(self, *numbers: int, type_: str = "progress") -> None:
        for number in numbers:
            data = {"text": str(number)} if type_ == "log" else {"done": number}
            self.sink.emit({"type": type_, "data": data})

    def received(self) -> list[int | LeftOut]:
        """The numbers that have come by now, and what was left out."""
        self._theirs.setblocking(False)
        try:
            received = self._splitter.feed(self._theirs.recv(1 << 20))
        except BlockingIOError:
            return []
        assert {(frame.kind, frame.id) for frame in received} == {(frames.FrameKind.EVENT, 7)}
        return [_shown(parse_event(frame.payload)) for frame in received]

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def _shown(event: InstanceEvent | None) -> int | LeftOut:
    if isinstance(event, EmittedEvent):
        return int(event.data.get("done") or event.data["text"])
    assert isinstance(event, LeftOut)
    return event


@pytest.fixture
def outlet() -> Iterator[Outlet]:
    made = Outlet()
    yield made
    made.close()


def test_what_is_emitted_is_received_at_once(outlet: Outlet) -> None:
    outlet.emit(1, 2)
    assert outlet.received() == [1, 2]


def test_what_is_too_much_waits_for_its_turn(outlet: Outlet) -> None:
    outlet.emit(*range(1, 9))
    assert outlet.received() == [1, 2, 3, 4, 5]
    outlet.now = 2.0
    outlet.emit(9)
    assert outlet.received() == [6, 7]


def test_the_last_events_are_received_at_the_end(outlet: Outlet) -> None:
    outlet.emit(*range(1, 9))
    outlet.sink.close()
    assert outlet.received() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_of_far_too_much_the_oldest_is_left_out_and_counted(outlet: Outlet) -> None:
    outlet.emit(*range(1, 6))
    outlet.emit(*range(6, 9), type_="log")
    outlet.emit(*range(9, 9 + HELD))
    outlet.sink.close()
    found = outlet.received()
    assert found[:6] == [1, 2, 3, 4, 5, LeftOut(lines=3)]
    assert found[6:] == list(range(9, 9 + HELD))


def test_what_is_far_too_large_is_refused(outlet: Outlet) -> None:
    with pytest.raises(ValueError, match="of progress: say figures"):
        outlet.sink.emit({"type": "progress", "data": {"text": "x" * MAX_EVENT}})
    assert outlet.received() == []
