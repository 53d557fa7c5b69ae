"""The relay against a host that the test plays by hand, on a loop that turns when told."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skipper.consumer.relay import FIRST_RETRY_S, LAST_RETRY_S, Relay
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind


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

    def accept(self) -> None:
        if self.link is not None:
            self.link.close()
        self.link, _ = self.listener.accept()
        self.link.settimeout(5)
        self._splitter, self._frames = frames.Splitter(), []
        hello = self.next()
        assert hello.kind == FrameKind.HELLO
        assert json.loads(hello.payload) == {"role": "consumer", "pid": os.getpid()}

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


def test_ids_go_out_in_one_frame_and_are_taken_once(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    host.accept()
    relay.hand_over(["a", "b"], lambda: taken.append("first"))
    relay.hand_over(["c"], lambda: taken.append("second"))
    first, second = host.next(), host.next()
    assert (first.kind, first.payload, second.payload) == (FrameKind.TAKE, b"a\nb", b"c")
    answer = frames.pack(FrameKind.TAKEN, second.id)
    host.send(
        answer
        + answer
        + frames.pack(FrameKind.TAKEN, 999)
        + frames.pack_json(FrameKind.CATALOGUE, 0, {})
    )
    loop.read()
    assert taken == ["second"]
    assert relay.waiting == 1


def test_what_was_not_taken_is_offered_to_the_next_host(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    host.accept()
    relay.hand_over(["a"], lambda: taken.append("a"))
    relay.hand_over(["b"], lambda: taken.append("b"))
    host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert host.link is not None
    host.link.close()
    loop.read()
    relay.hand_over(["c"], lambda: taken.append("c"))  # while nobody is there
    loop.fire()
    host.accept()
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
    host.accept()
    host.close()


def test_a_loop_that_forgot_the_link_is_joined_again_without_a_second_link(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    host.accept()
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
    host.accept()
    old[1]()
    assert len(loop.readers) == 1
    host.close()


def test_what_is_forgotten_is_neither_offered_again_nor_reported(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    taken: list[str] = []
    relay.attach(loop)
    host.accept()
    relay.hand_over(["a"], lambda: taken.append("a"))
    relay.forget()
    host.send(frames.pack(FrameKind.TAKEN, host.next().id))
    loop.read()
    assert (taken, relay.waiting) == ([], 0)


def test_a_host_that_speaks_nonsense_is_left(host: HandHost, relay: Relay, loop: HandLoop) -> None:
    relay.attach(loop)
    host.accept()
    host.send(b"\xff" * 100)
    loop.read()
    assert not loop.readers
    loop.fire()
    host.accept()


def test_a_host_that_does_not_read_blocks_nobody(
    host: HandHost, relay: Relay, loop: HandLoop
) -> None:
    relay.attach(loop)
    for _ in range(2000):
        relay.hand_over(["x" * 1000], lambda: None)
    assert not loop.readers  # the link was given up, what waits was kept
    assert relay.waiting == 2000
