"""The relay against a host that the test plays by hand, on a loop that turns when told."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skipper.consumer.relay import FIRST_RETRY_S, HELLO_S, LAST_RETRY_S, Relay
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.handshake import introduced, introduction
from skipper.wire.messages import PROTOCOL, Hello, LinkRole


class HandLoop:
    """An event loop without time: the test fires readers and timers."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int, /) -> None:
        self.readers.pop(fd, None)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> None:
        self.timers.append((delay, callback))

    def read(self) -> None:
        for callback in list(self.readers.values()):
            callback()

    def fire(self) -> list[float]:
        """Let all timers be due; how long they would have waited."""
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()
        return [delay for delay, _ in timers]

    def forget(self) -> None:
        """What kombu's hub does when a connection to the broker breaks."""
        self.readers.clear()
        self.timers.clear()


class HandHost:
    """The other end of the link. Blocking, with a limit."""

    def __init__(self, address: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(5)
        self.listener.bind(str(address))
        self.listener.listen()
        self.link: socket.socket | None = None
        self._splitter = frames.Splitter()
        self._frames: list[Frame] = []

    def accept(self, protocol: int | None = PROTOCOL) -> None:
        """Let the relay in. Introduce this host with this number; not at all where it is None."""
        if self.link is not None:
            self.link.close()
        self.link, _ = self.listener.accept()
        self.link.settimeout(5)
        self._splitter, self._frames = frames.Splitter(), []
        hello = self.next()
        assert hello.kind == FrameKind.HELLO
        assert introduced(hello) == Hello(role="consumer", pid=os.getpid(), protocol=PROTOCOL)
        if protocol is not None:
            own = Hello(role="host", pid=7, protocol=protocol)
            self.send(frames.pack(FrameKind.HELLO, 0, own.to_json()))

    def next(self) -> Frame:
        assert self.link is not None
        while not self._frames:
            self._frames += self._splitter.feed(self.link.recv(65536))
        return self._frames.pop(0)

    def send(self, data: bytes) -> None:
        assert self.link is not None
        self.link.sendall(data)

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
        self.listener.close()


@pytest.fixture
def address() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="skp-") as folder:
        yield Path(folder) / "cpu.sock"


@pytest.fixture
def loop() -> HandLoop:
    return HandLoop()


@pytest.fixture
def host(address: Path) -> Iterator[HandHost]:
    host = HandHost(address)
    yield host
    host.close()


@pytest.fixture
def relay(address: Path, loop: HandLoop) -> Iterator[Relay]:
    relay = Relay(address)
    yield relay
    relay.close()


def meet(host: HandHost, loop: HandLoop, protocol: int | None = PROTOCOL) -> None:
    """Let the relay in, and let it read what this host gives as its number."""
    host.accept(protocol)
    loop.read()


def test_ids_go_out_in_one_frame_and_are_taken_once(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    meet(host, loop)
    relay.hand_over(["a", "b"], lambda: taken.append("first"))
    relay.hand_over(["c"], lambda: taken.append("second"))
    first, second = host.next(), host.next()
    assert (first.kind, first.payload, second.payload) == (FrameKind.TAKE, b"a\nb", b"c")
    answer = frames.pack(FrameKind.TAKEN, second.id)
    host.send(
        answer
        + answer
        + frames.pack(FrameKind.TAKEN, 999)
        + frames.pack(FrameKind.CATALOGUE, 0, b"{}")
    )
    loop.read()
    assert taken == ["second"]
    assert relay.waiting == 1


def test_a_host_that_is_not_there_yet_is_no_news(
    address: Path, loop: HandLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a tree that starts, consumers may be there first."""
    caplog.set_level(logging.INFO)
    relay = Relay(address)
    relay.attach(loop)
    host = HandHost(address)
    loop.fire()
    meet(host, loop)
    assert [record.message for record in caplog.records] == []
    assert host.link is not None
    host.link.close()
    loop.read()
    loop.fire()
    meet(host, loop)
    told = [record.message for record in caplog.records]
    assert told == ["host is away; 0 messages wait for it", "host is back"]
    host.close()
    relay.close()


def test_what_was_not_taken_is_offered_to_the_next_host(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    meet(host, loop)
    relay.hand_over(["a"], lambda: taken.append("a"))
    relay.hand_over(["b"], lambda: taken.append("b"))
    host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert host.link is not None
    host.link.close()
    loop.read()
    relay.hand_over(["c"], lambda: taken.append("c"))  # while nobody is there
    loop.fire()
    meet(host, loop)
    offered = [host.next(), host.next()]
    assert [frame.payload for frame in offered] == [b"b", b"c"]
    host.send(b"".join(frames.pack(FrameKind.TAKEN, frame.id) for frame in offered))
    loop.read()
    assert taken == ["a", "b", "c"]


def test_a_host_that_is_not_there_is_asked_less_and_less_often_but_for_ever(
    address: Path, relay: Relay, loop: HandLoop
) -> None:
    relay.attach(loop)
    delays = [delay for _ in range(10) for delay in loop.fire()]
    assert delays[0] == FIRST_RETRY_S
    assert delays == sorted(delays)
    assert delays[-3:] == [LAST_RETRY_S] * 3
    host = HandHost(address)
    loop.fire()
    meet(host, loop)
    host.close()


def test_a_loop_that_forgot_the_link_is_joined_again_without_a_second_link(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    meet(host, loop)
    loop.forget()
    relay.attach(loop)
    relay.hand_over(["a"], lambda: taken.append("a"))
    host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert taken == ["a"]


def test_a_loop_that_forgot_a_retry_is_given_another_and_an_old_one_does_nothing(
    address: Path, relay: Relay, loop: HandLoop
) -> None:
    relay.attach(loop)
    (old,) = loop.timers
    loop.forget()
    relay.attach(loop)
    host = HandHost(address)
    old[1]()
    assert not loop.readers
    loop.fire()
    meet(host, loop)
    old[1]()
    assert len(loop.readers) == 1
    host.close()


def test_what_is_forgotten_is_neither_offered_again_nor_reported(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    meet(host, loop)
    relay.hand_over(["a"], lambda: taken.append("a"))
    relay.forget()
    host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert (taken, relay.waiting) == ([], 0)


def test_a_host_that_speaks_nonsense_is_left(host: HandHost, relay: Relay, loop: HandLoop) -> None:
    relay.attach(loop)
    meet(host, loop)
    host.send(b"\xff" * 100)
    loop.read()
    assert not loop.readers
    loop.fire()
    meet(host, loop)


def test_a_host_that_does_not_read_blocks_nobody(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    relay.attach(loop)
    meet(host, loop)
    for _ in range(2000):
        relay.hand_over(["x" * 1000], lambda: None)
    assert not loop.readers  # the link was given up, what waits was kept
    assert relay.waiting == 2000


# --- hosts of other versions -----------------------------------------------------------------


@pytest.mark.parametrize("number", [PROTOCOL + 1, 0])
def test_a_host_of_another_version_is_offered_nothing_until_there_is_one_of_this(
    host: HandHost,
    relay: Relay,
    loop: HandLoop,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    relay.hand_over(["a"], lambda: taken.append("a"))
    delays: list[float] = []
    for _ in range(6):
        meet(host, loop, number)
        assert not loop.readers  # it has hung up
        relay.hand_over(["b"], lambda: taken.append("b"))
        assert host.link is not None
        assert host.link.recv(4096) == b""
        delays += [delay for delay in loop.fire() if delay != HELLO_S]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"the host speaks protocol {number}" in record.message
    assert f"this consumer protocol {PROTOCOL}" in record.message
    meet(host, loop)
    for _ in range(7):
        host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert taken == ["a", *["b"] * 6]


def test_what_is_no_introduction_comes_from_a_host_without_a_number(
    host: HandHost, relay: Relay, loop: HandLoop, caplog: pytest.LogCaptureFixture
) -> None:
    relay.attach(loop)
    host.accept(None)
    host.send(frames.pack(FrameKind.CATALOGUE, 0, b"{}"))
    loop.read()
    assert not loop.readers
    assert "the host speaks protocol 0" in caplog.text


def test_that_a_host_does_not_introduce_itself_is_logged_once_and_it_may_do_so_later(
    host: HandHost, relay: Relay, loop: HandLoop, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    host.accept(None)
    relay.hand_over(["a"], lambda: taken.append("a"))
    assert loop.fire() == [HELLO_S]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    host.send(frames.pack(FrameKind.HELLO, 0, introduction(LinkRole.HOST)))
    loop.read()
    host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert taken == ["a"]


def test_a_host_that_has_introduced_itself_is_never_silent(
    host: HandHost, relay: Relay, loop: HandLoop, caplog: pytest.LogCaptureFixture
) -> None:
    relay.attach(loop)
    meet(host, loop)
    loop.fire()
    assert not caplog.records
