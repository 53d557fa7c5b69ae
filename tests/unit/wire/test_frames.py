import asyncio
import os
import socket

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind, FrameProtocol, Splitter

any_frame = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=300)
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` in pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + sizes[turn % len(sizes)]])
        at, turn = at + len(pieces[-1]), turn + 1
    return pieces


@given(st.lists(any_frame, max_size=8), st.lists(st.integers(1, 400), min_size=1))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    sent: list[Frame], sizes: list[int]
) -> None:
    splitter = Splitter()
    stream = b"".join(frames.pack(*frame) for frame in sent)
    got = [frame for piece in cut(stream, sizes) for frame in splitter.feed(piece)]
    assert got == sent


@given(any_frame)
def test_a_frame_is_held_back_until_its_last_byte(frame: Frame) -> None:
    splitter = Splitter()
    data = frames.pack(*frame)
    assert splitter.feed(data[:-1]) == []
    assert splitter.feed(data[-1:]) == [frame]


def test_frames_before_an_incomplete_one_are_not_held_back() -> None:
    splitter, one = Splitter(), frames.pack(FrameKind.ITEM, 1, b"one")
    two = frames.pack(FrameKind.ITEM, 2, b"two")
    assert splitter.feed(one + two[:5]) == [(FrameKind.ITEM, 1, b"one")]
    assert splitter.feed(two[5:]) == [(FrameKind.ITEM, 2, b"two")]


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() -> None:
    head = frames.HEAD.pack(frames.MAX_FRAME + 1, FrameKind.CALL, 1)
    with pytest.raises(ValueError, match=r"a frame of 1073741825 bytes"):
        Splitter().feed(head)


def test_the_longest_allowed_frame_is_waited_for() -> None:
    assert Splitter().feed(frames.HEAD.pack(frames.MAX_FRAME, FrameKind.CALL, 1)) == []


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_the_parts_of_a_payload_are_joined(parts: list[bytes]) -> None:
    assert Splitter().feed(frames.pack(FrameKind.CALL, 7, *parts)) == [
        (FrameKind.CALL, 7, b"".join(parts))
    ]


def test_a_peer_of_this_user_is_us_and_any_other_is_not() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert frames.peer_is_us(ours, os.getuid())
        if hasattr(socket, "SO_PEERCRED"):
            assert not frames.peer_is_us(ours, os.getuid() + 1)


class End:
    """One end of a connection that keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[Frame] = []
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.protocol = FrameProtocol(
            lambda _, received: self.received.extend(received),
            lambda _: self.lost.set(),
            lambda _: self.made.set(),
        )


async def connected() -> tuple[End, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    end = End()
    await asyncio.get_running_loop().create_unix_connection(lambda: end.protocol, sock=ours)
    await end.made.wait()
    return end, theirs


async def test_a_connection_speaks_frames_both_ways_and_notices_the_end() -> None:
    end, peer = await connected()
    loop = asyncio.get_running_loop()
    end.protocol.send(FrameKind.NUDGE, 5)
    end.protocol.send(FrameKind.ASK, 6, b'{"what":', b'"pool"}')
    sent = Splitter().feed(await loop.sock_recv(peer, 4096))
    assert sent == [(FrameKind.NUDGE, 5, b""), (FrameKind.ASK, 6, b'{"what":"pool"}')]
    await loop.sock_sendall(
        peer, frames.pack(FrameKind.ITEM, 1, b"1") + frames.pack(FrameKind.ITEM, 2, b"2")
    )
    peer.close()
    await asyncio.wait_for(end.lost.wait(), 5)
    assert end.received == [(FrameKind.ITEM, 1, b"1"), (FrameKind.ITEM, 2, b"2")]


async def test_a_peer_that_does_not_speak_frames_is_hung_up_on() -> None:
    end, peer = await connected()
    await asyncio.get_running_loop().sock_sendall(peer, b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    await asyncio.wait_for(end.lost.wait(), 5)
    assert end.received == []
    peer.close()


def test_a_frame_to_a_peer_that_is_gone_goes_nowhere() -> None:
    async def body() -> None:
        end, peer = await connected()
        peer.close()
        await asyncio.wait_for(end.lost.wait(), 5)
        end.protocol.send(FrameKind.TAKEN, 1)

    uvloop.run(body())  # the loop of every role; its closed transports raise where asyncio's do not


# --- windows of streams ------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
def test_a_credit_gives_what_it_was_made_of(taken: int) -> None:
    assert frames.credited(frames.credit(taken)) == taken


@pytest.mark.parametrize("payload", [b"", b"1", b"x" * 7, b"x" * 9])
def test_what_is_no_credit_gives_nothing(payload: bytes) -> None:
    assert frames.credited(payload) == 0


def test_small_items_weigh_alike_and_large_ones_their_bytes() -> None:
    assert [frames.weight(b"x" * size) for size in (0, 1, frames.LEAST, frames.WINDOW)] == [
        frames.LEAST,
        frames.LEAST,
        frames.LEAST,
        frames.WINDOW,
    ]


def test_a_function_is_at_most_64_items_ahead_and_8_of_a_caller_that_reads_none() -> None:
    assert (frames.WINDOW // frames.LEAST, frames.FIRST_WINDOW // frames.LEAST) == (64, 8)
