"""How requests are answered that come to nobody, and what of them is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from skipper.gateway import request_ids
from skipper.gateway.http.exchange import STATUS_LINES, problem_answer
from skipper.problems import ProblemKind

log = logging.getLogger(__name__)

EVERY_S = 1.0


def refusal(kind: ProblemKind, detail: str, request_id: str) -> bytes:
    """A problem's whole answer to what is no request, after which the connection ends."""
    status, headers, body = problem_answer(kind, detail)
    headers += [
        (b"content-length", b"%d" % len(body)),
        (request_ids.HEADER, request_id.encode()),
        (b"connection", b"close"),
    ]
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([STATUS_LINES[status], *lines, b"\r\n", body])


class Complaints:
    """Log lines about callers, of which there may be many a second: one of a kind a second.

    The next line tells how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def add(self, what: str, who: object, detail: str = "") -> None:
        """Log that ``what`` happened with ``who``, unless there was such a line just now."""
        now = self._clock()
        if now - self._last.get(what, -EVERY_S) < EVERY_S:
            self._left_out[what] = self._left_out.get(what, 0) + 1
            return
        self._last[what] = now
        more = self._left_out.pop(what, 0)
        rest = f" ({more} more like it since the last such line)" if more else ""
        log.warning("%s: %s%s%s", what, who, f": {detail}" if detail else "", rest)
