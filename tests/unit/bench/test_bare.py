"""The frames of the bare relay."""

from __future__ import annotations

from bench.apps.bare import frame, taken


def test_whole_frames_are_taken_and_the_rest_stays() -> None:
    cut = frame(9, b"late")[:-1]
    buffer = bytearray(frame(7, b"one") + frame(8, b"") + cut)
    assert list(taken(buffer)) == [(7, b"one"), (8, b"")]
    assert buffer == cut


def test_a_frame_that_came_in_pieces_is_taken_once_it_is_whole() -> None:
    buffer, whole = bytearray(), frame(1, b"body")
    found = []
    for byte in whole:
        buffer.append(byte)
        found += list(taken(buffer))
    assert found == [(1, b"body")]
