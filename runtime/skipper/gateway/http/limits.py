"""What one caller may make the process keep, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 64 << 10
HEAD_LINES = 100
"""Of a request's head, its first line and the trailers of its body among them."""
HEADS_BYTES = 16 << 20
"""Of all heads together whose end is yet to come."""
BODY_AHEAD = 64 << 10
"""Of a body, what is received before somebody asks for it."""
PIECES = 256 << 10
"""Of a body that is passed on as it comes, what may lie here."""
PIPELINED = 64 << 10
"""Of later requests, what is received while one is being answered."""
SHORT_REST = 64 << 10
"""An unread rest of a body that is no longer is received, so that its connection can go on."""
PIECE = 64 << 10
"""Of an answer, what is written at once."""
MAPPED_PIECE = 1 << 20
"""The same of one that is a mapped file's, which is no memory of this process."""
UNSENT = 32 << 10
"""Of an answer, what may lie unsent when the next piece is written."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many connections there may be, and how long each may take, in seconds."""

    connections: int = 4096
    head_s: float = 10.0
    """A request's head, from its first byte, or from the connection's start where none comes."""
    stall_s: float = 60.0
    """In so long a body must get on, and an answer must be read on, by ``progress`` bytes."""
    progress: int = 16 << 10
    idle_s: float = 75.0
    """Longer than most clients keep an idle connection (5 to 60 s), because a request on its way to
    a server that closes just then is lost, and its sender cannot know whether it ran."""
    linger_s: float = 5.0
    """After an answer that ends a connection: what still comes is thrown away for so long, since a
    caller that is cut off while it sends may not get to read the answer."""
