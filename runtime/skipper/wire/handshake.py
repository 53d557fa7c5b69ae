"""How two processes find out whether they can talk: each says which protocol it speaks. Pure."""

from __future__ import annotations

import os

from skipper.wire.frames import Frame, FrameKind
from skipper.wire.messages import PROTOCOL, Hello


def introduction(role: str) -> bytes:
    """The payload of this process's own HELLO."""
    return Hello(role=role, pid=os.getpid(), protocol=PROTOCOL).to_json()


def introduced(first: Frame) -> Hello:
    """Who the other side is, by its first frame.

    What is no HELLO comes from a version before hosts introduced themselves: number 0.
    """
    if first.kind != FrameKind.HELLO:
        return Hello()
    try:
        return Hello.parse(first.payload)
    except ValueError:
        return Hello()


def mismatch(peer: str, found: int, own: str) -> str:
    """Why ``own`` (this gateway, …) and ``peer``, which speaks protocol ``found``, do not talk, and
    what helps. Empty where they do.
    """
    if found == PROTOCOL:
        return ""
    given = f"protocol {found}" if found else "protocol 0 (it gave no number)"
    older = peer if found < PROTOCOL else own
    return (
        f"{peer} speaks {given} and {own} protocol {PROTOCOL}, so they do not talk: "
        f"upgrade and restart {older}, the older of the two"
    )
