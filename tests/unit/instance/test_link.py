import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from skipper.instance.link import OWN, HostGoneError, HostLink, LinkClosedError, out_of_reach
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind

LIMIT_S = 10.0


class HostEnd:
    """The host's end of the socket, for blocking calls."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._splitter = frames.Splitter()
        self._received: list[Frame] = []

    def send(self, *parts: tuple[Any, ...]) -> None:
        self._sock.sendall(b"".join(frames.pack(*part) for part in parts))

    def receive(self) -> Frame:
        while not self._received:
            data = self._sock.recv(1 << 16)
            assert data, "the instance hung up"
            self._received = self._splitter.feed(data)
        return self._received.pop(0)

    def hang_up(self) -> None:
        self._sock.close()


@pytest.fixture
def ends() -> Iterator[tuple[HostLink, HostEnd]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(LIMIT_S)
    with ours, theirs:
        yield HostLink(ours), HostEnd(theirs)
        ours.shutdown(socket.SHUT_RDWR)  # wakes a thread that a failed test has left waiting


@pytest.fixture
def threads() -> Iterator[Callable[..., Any]]:
    pool = ThreadPoolExecutor(8)
    yield pool.submit
    pool.shutdown(wait=False)


def test_frames_come_in_order_and_one_at_a_time(ends: tuple[HostLink, HostEnd]) -> None:
    link, host = ends
    host.send((FrameKind.JOB, 0, b"{}"), (FrameKind.CALL, 1, b"a"), (FrameKind.CALL, 2, b"b"))
    assert [link.next() for _ in range(3)] == [
        (FrameKind.JOB, 0, b"{}"),
        (FrameKind.CALL, 1, b"a"),
        (FrameKind.CALL, 2, b"b"),
    ]


def test_what_is_sent_arrives_as_whole_frames(ends: tuple[HostLink, HostEnd]) -> None:
    link, host = ends
    link.send(FrameKind.ITEM, 3, b"[1,", b"2]")
    link.send_packed(frames.pack(FrameKind.SIZE, 2) + frames.pack(FrameKind.REPLY, 4, b"x"))
    received = [host.receive() for _ in range(3)]
    assert received == [
        (FrameKind.ITEM, 3, b"[1,2]"),
        (FrameKind.SIZE, 2, b""),
        (FrameKind.REPLY, 4, b"x"),
    ]


def test_frames_of_several_threads_do_not_mix(
    ends: tuple[HostLink, HostEnd], threads: Callable[..., Any]
) -> None:
    link, host = ends
    body = b"x" * 100_000  # more than the socket takes at once
    sent = [threads(link.send, FrameKind.EVENT, n, body) for n in range(8)]
    assert sorted(host.receive() for _ in sent) == [(FrameKind.EVENT, n, body) for n in range(8)]


def test_an_answer_goes_to_who_asked_and_calls_to_who_serves(
    ends: tuple[HostLink, HostEnd],
) -> None:
    link, host = ends
    call_id = link.ask(b"call")
    assert host.receive() == (FrameKind.CALL, call_id, b"call")
    host.send((FrameKind.CALL, 1, b"work"), (FrameKind.REPLY, call_id, b"answer"))
    assert link.wait_for(call_id).payload == b"answer"
    assert link.next() == (FrameKind.CALL, 1, b"work")


def test_calls_of_its_own_cannot_be_taken_for_those_it_is_asked(
    ends: tuple[HostLink, HostEnd],
) -> None:
    link, _ = ends
    ids = [link.ask(b"") for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(id_ & OWN for id_ in ids)


def test_each_of_several_waiting_threads_gets_its_own_answer(
    ends: tuple[HostLink, HostEnd], threads: Callable[..., Any]
) -> None:
    link, host = ends
    ids = [link.ask(b"") for _ in range(6)]
    waiting = {id_: threads(link.wait_for, id_) for id_ in ids}
    serving = threads(link.next)
    host.send(*((FrameKind.REPLY, id_, str(id_).encode()) for id_ in reversed(ids)))
    host.send((FrameKind.CALL, 1, b"work"))
    for id_, answer in waiting.items():
        assert answer.result(LIMIT_S).payload == str(id_).encode()
    assert serving.result(LIMIT_S) == (FrameKind.CALL, 1, b"work")


def test_an_answer_is_taken_while_another_thread_waits_for_calls(
    ends: tuple[HostLink, HostEnd], threads: Callable[..., Any]
) -> None:
    link, host = ends
    serving = threads(link.next)
    call_id = link.ask(b"")
    host.send((FrameKind.REPLY, call_id, b"answer"))
    assert link.wait_for(call_id).payload == b"answer"
    host.send((FrameKind.CALL, 1, b""))
    assert serving.result(LIMIT_S).kind == FrameKind.CALL


def test_a_cancel_is_known_without_waiting_until_the_call_is_over(
    ends: tuple[HostLink, HostEnd],
) -> None:
    link, host = ends
    assert not link.is_cancelled(7)
    host.send((FrameKind.CANCEL, 7))
    assert link.is_cancelled(7)
    assert not link.is_cancelled(8)
    link.forget(7)
    assert not link.is_cancelled(7)


def test_looking_for_a_cancel_keeps_the_frames_beside_it(ends: tuple[HostLink, HostEnd]) -> None:
    link, host = ends
    host.send((FrameKind.CALL, 2, b"next"), (FrameKind.CANCEL, 1))
    assert link.is_cancelled(1)
    assert link.next() == (FrameKind.CALL, 2, b"next")


def test_a_cancel_is_seen_by_a_thread_beside_the_one_that_reads(
    ends: tuple[HostLink, HostEnd], threads: Callable[..., Any]
) -> None:
    link, host = ends
    serving = threads(link.next)
    host.send((FrameKind.CANCEL, 1))
    assert serving.result(LIMIT_S) == (FrameKind.CANCEL, 1, b"")
    assert link.is_cancelled(1)


def test_a_stream_sends_a_window_and_then_what_there_is_credit_for(
    ends: tuple[HostLink, HostEnd], threads: Callable[..., Any]
) -> None:
    link, host = ends
    assert all(link.take_credit(1, b"1") for _ in range(frames.FIRST_WINDOW // frames.LEAST))
    assert link.credit_now(1, b"1") is None
    stopped = threads(link.take_credit, 1, b"1")
    host.send((FrameKind.CREDIT, 1, frames.credit(3 * frames.LEAST)))
    assert stopped.result(LIMIT_S) is True
    assert all(link.take_credit(1, b"1") for _ in range(2))
    stopped = threads(link.take_credit, 1, b"1")
    assert not stopped.done()
    host.send((FrameKind.CANCEL, 1))
    assert stopped.result(LIMIT_S) is False
    assert link.credit_now(1, b"1") is False


@pytest.mark.parametrize(
    "size", [frames.FIRST_WINDOW // 3, frames.FIRST_WINDOW, 20 * frames.FIRST_WINDOW]
)
def test_a_window_is_bytes_and_the_item_that_reaches_past_it(
    ends: tuple[HostLink, HostEnd], size: int
) -> None:
    link, host = ends
    sent = 0
    while link.credit_now(1, b"x" * size):
        sent += size
    assert frames.FIRST_WINDOW <= sent < frames.FIRST_WINDOW + size
    host.send(
        (FrameKind.CREDIT, 1, frames.credit(sent - frames.FIRST_WINDOW)), (FrameKind.CALL, 2, b"")
    )
    link.next()  # frames come in order
    assert link.credit_now(1, b"1") is None
    host.send((FrameKind.CREDIT, 1, frames.credit(1)))
    assert link.take_credit(1, b"1")


def test_a_credit_that_cannot_be_read_gives_nothing(ends: tuple[HostLink, HostEnd]) -> None:
    link, host = ends
    link.take_credit(1, b"x" * frames.FIRST_WINDOW)
    host.send((FrameKind.CREDIT, 1, b"junk"), (FrameKind.CREDIT, 1), (FrameKind.CALL, 2, b""))
    link.next()
    assert link.credit_now(1, b"1") is None


def test_credit_is_of_one_call_alone(ends: tuple[HostLink, HostEnd]) -> None:
    link, _ = ends
    link.take_credit(1, b"x" * frames.FIRST_WINDOW)
    assert link.take_credit(2, b"1")


def test_credit_for_a_stream_that_has_ended_is_not_kept(ends: tuple[HostLink, HostEnd]) -> None:
    link, host = ends
    link.take_credit(1, b"1")
    link.forget(1)
    host.send((FrameKind.CREDIT, 1, frames.credit(1)), (FrameKind.CANCEL, 2))
    while not link.is_cancelled(2):  # frames come in order
        pass
    assert link._credit == {}


def test_nobody_waits_for_a_host_that_is_gone(
    ends: tuple[HostLink, HostEnd], threads: Callable[..., Any]
) -> None:
    link, host = ends
    call_id = link.ask(b"")
    waiting = [threads(link.next), threads(link.wait_for, call_id)]
    host.hang_up()
    for one in waiting:
        with pytest.raises(HostGoneError):
            one.result(LIMIT_S)
    acts = (link.next, lambda: link.wait_for(call_id), lambda: link.is_cancelled(1))
    for act in (*acts, lambda: link.send(FrameKind.ITEM, 1)):
        with pytest.raises(HostGoneError):
            act()


def test_an_idle_instance_is_one_thread(ends: tuple[HostLink, HostEnd]) -> None:
    link, host = ends
    before = threading.active_count()
    host.send((FrameKind.REPLY, link.ask(b""), calls.reply(Outcome.OK, b"", b"1")))
    link.is_cancelled(1)
    assert threading.active_count() <= before  # fewer where another test's thread ends just now


def test_a_socket_that_its_own_process_has_closed_is_no_host_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    link = HostLink(ours)
    link.close()
    for act in (link.next, lambda: link.is_cancelled(1), lambda: link.send(FrameKind.ITEM, 1)):
        with pytest.raises(LinkClosedError):
            act()
    theirs.close()


def test_what_closes_low_descriptors_leaves_the_link_alone() -> None:
    ours, theirs = socket.socketpair()
    with out_of_reach(ours) as moved, theirs:
        assert ours.fileno() == -1
        assert moved.fileno() >= 900
        HostLink(moved).send(FrameKind.ITEM, 3, b"[]")
        assert HostEnd(theirs).receive() == (FrameKind.ITEM, 3, b"[]")
