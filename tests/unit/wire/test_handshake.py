"""Whether two processes can talk, as their first frames show."""

import os

import pytest

from skipper.wire.frames import Frame, FrameKind
from skipper.wire.handshake import introduced, introduction, mismatch
from skipper.wire.messages import PROTOCOL, Hello, LinkRole


def test_an_introduction_is_read_as_it_was_written() -> None:
    hello = introduced(Frame(FrameKind.HELLO, 0, introduction(LinkRole.GATEWAY)))
    assert hello == Hello(role="gateway", pid=os.getpid(), protocol=PROTOCOL)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b'{"role":"host","pid":1,"protocol":7,"machine":"m1","tls":{"alpn":"skp"}}', 7),
        (b'{"protocol":7}', 7),
        (b'{"role":"gateway","pid":1}', 0),
        (b'{"role":"gateway","pid":"one","protocol":7}', 0),
        (b"[]", 0),
        (b"\xff", 0),
        (b"", 0),
    ],
)
def test_the_introduction_of_any_version_has_a_number(payload: bytes, number: int) -> None:
    assert introduced(Frame(FrameKind.HELLO, 0, payload)).protocol == number


def test_who_begins_with_anything_else_has_none() -> None:
    assert introduced(Frame(FrameKind.CATALOGUE, 0, introduction(LinkRole.HOST))) == Hello()


def test_processes_of_one_number_talk() -> None:
    assert mismatch("the host of pool cpu", PROTOCOL, "this gateway") == ""


@pytest.mark.parametrize(
    ("number", "found", "older"),
    [
        (PROTOCOL + 1, f"protocol {PROTOCOL + 1}", "this gateway"),
        (0, "protocol 0 (it gave no number)", "the host of pool cpu"),
    ],
)
def test_others_learn_both_numbers_and_which_of_them_to_restart(
    number: int, found: str, older: str
) -> None:
    reason = mismatch("the host of pool cpu", number, "this gateway")
    assert f"the host of pool cpu speaks {found} and this gateway protocol {PROTOCOL}" in reason
    assert reason.endswith(f"upgrade and restart {older}, the older of the two")
