import logging
import socket
from collections.abc import Iterator

import pytest

from skipper.function.tallies import MOST_SERIES, Series, Tallies
from skipper.instance.link import HostLink
from skipper.instance.tallies import MAX_TOLD, InstanceTallies
from skipper.wire import frames
from skipper.wire.tallies import parse_tallies


class Outlet:
    """What an instance counts at one end of a socket, and what comes out at the other."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.now = 0.0
        self.tallies = InstanceTallies(HostLink(self._ours), "f.f", clock=lambda: self.now)

    def count(self, name: object, amount: object = 1, **labels: object) -> None:
        self.tallies.count(name, amount, labels)

    def received(self) -> list[Tallies]:
        self._theirs.setblocking(False)
        try:
            received = frames.Splitter().feed(self._theirs.recv(1 << 20))
        except BlockingIOError:
            return []
        assert {(frame.kind, frame.id) for frame in received} == {(frames.FrameKind.TALLIES, 0)}
        return [parse_tallies(frame.payload) for frame in received]

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def outlet() -> Iterator[Outlet]:
    made = Outlet()
    yield made
    made.close()


def test_what_many_calls_of_it_count_is_sent_as_one_sum(outlet: Outlet) -> None:
    for _ in range(1000):
        outlet.count("n", 2)
    assert outlet.received() == []
    outlet.tallies.send()
    outlet.tallies.send()
    assert outlet.received() == [Tallies(counts={Series("n", ()): 2000.0})]


def test_a_run_that_goes_on_sends_once_a_second(outlet: Outlet) -> None:
    for now in (0.0, 0.5, 1.0, 1.5, 2.0):
        outlet.now = now
        outlet.count("n")
    assert [sum(each.counts.values()) for each in outlet.received()] == [3, 2]


@pytest.mark.parametrize(
    ("name", "amount"), [("no name", 1), (None, 1), ("n", -1), ("n", float("nan")), ("n", "x")]
)
def test_what_cannot_be_shown_is_counted_and_told_once(
    outlet: Outlet, caplog: pytest.LogCaptureFixture, name: object, amount: object
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            outlet.count(name, amount)
    outlet.tallies.send()
    assert outlet.received() == [Tallies(left_out=3)]
    (told,) = caplog.messages
    assert "left out of /metrics" in told


def test_of_labels_without_end_the_first_are_taken_and_the_rest_is_told_once(
    outlet: Outlet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(MOST_SERIES + 70):
            outlet.count("n", user=number)
    outlet.tallies.send()
    (got,) = outlet.received()
    assert (len(got.counts), got.left_out) == (MOST_SERIES, 70)
    assert len(caplog.messages) == 1


def test_bad_names_without_end_are_not_all_told(
    outlet: Outlet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            outlet.count(f"no name {number}")
    assert len(caplog.messages) == MAX_TOLD
