"""A line of the log for each request, once it is over, where ``log.access`` is set.

Of a request it has method, path and id, but no query, header or body: callers put secrets there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from skipper.gateway.http.exchange import Exchange

MAX_PATH = 300
"""Characters of a path that are kept."""

log = logging.getLogger("skipper.access")


class AccessLog:
    """Writes the lines. ``clock`` is the one by which requests are received, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        log.setLevel(logging.INFO)  # whatever log.level is: these lines were asked for

    def ended(self, exchange: Exchange) -> None:
        """A request is over: it was answered, or its connection has ended before that."""
        head, cut = exchange.head, {}
        if not exchange.is_answered:
            cut = {"cut": "amid its answer" if exchange.is_started else "before its answer"}
        _write(
            f"{head.method} {_bounded(head.path)}",
            status=exchange.status,
            ms=round((self._clock() - exchange.received) * 1000, 1),
            request=exchange.request_id,
            **cut,
        )

    def refused(self, status: int, request_id: str) -> None:
        """What came was no request."""
        _write("no request", status=status, ms=0.0, request=request_id)


def _write(message: str, **members: Any) -> None:
    log.info("%s", message, extra={"event": "access", **members})


def _bounded(path: str) -> str:
    return path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}…"
