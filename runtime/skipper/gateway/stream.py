"""A generator's items on their way to the caller: server-sent events, or JSON lines.

The function makes no more items than the caller takes: sending them on gives credit for more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from starlette.types import Receive, Send

from skipper.gateway.context import sse
from skipper.gateway.problems import Problem, from_outcome
from skipper.gateway.sent import Sent, until_gone
from skipper.outcomes import Outcome
from skipper.wire import calls, frames

EVENTS = b"text/event-stream"
Headers = list[tuple[bytes, bytes]]


def stream_type(accept: bytes) -> bytes:
    """Which kind of stream the caller accepts; empty for none."""
    for kind in (EVENTS, b"application/jsonl", b"application/x-ndjson"):
        if kind in accept:
            return kind
    return b""


class ItemStream:
    """One stream, of the kind that the caller accepts."""

    def __init__(self, kind: bytes) -> None:
        self._kind = kind
        self._is_sse = kind == EVENTS

    async def run(
        self, sent: Sent, told: Callable[[bytes], Headers], receive: Receive, send: Send
    ) -> None:
        """Send items until the function ends or the caller leaves.

        ``told`` makes headers of what serves the call. Raises :class:`Problem` for a function that
        fails before its first item.
        """
        watch = asyncio.ensure_future(until_gone(receive, sent))
        try:
            assert sent.items is not None
            served = await sent.items.get()
            item = None if served is None else await sent.items.get()
            if item is None and (problem := _problem(sent)) is not None:
                problem.headers |= {k.decode(): v.decode() for k, v in told(served or b"")}
                raise problem
            headers = [
                (b"content-type", self._kind),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),
                *told(served or b""),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send_items(item, sent, sent.items, send)
            await send({"type": "http.response.body", "body": self._end(sent)})
        finally:
            watch.cancel()
            sent.give_up()

    async def _send_items(
        self, item: bytes | None, sent: Sent, items: asyncio.Queue[bytes | None], send: Send
    ) -> None:
        taken = 0
        while item is not None:
            body = sse("item", item) if self._is_sse else item + b"\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
            taken += 1
            if taken % frames.CREDIT_ITEMS == 0:
                sent.waiting.link.credit(sent.waiting)
            item = await items.get()

    def _end(self, sent: Sent) -> bytes:
        """How the stream closes: ``done``, or the problem that ended it."""
        problem = _problem(sent)
        if problem is None:
            return sse("done", b"{}") if self._is_sse else b""
        document = problem.document()
        if self._is_sse:
            return sse("error", document)
        return json.dumps({"error": document}).encode() + b"\n"


def _problem(sent: Sent) -> Problem | None:
    if sent.waiting.reply.cancelled():
        return None
    outcome, _, body = calls.parse_reply(sent.waiting.reply.result())
    if outcome == Outcome.OK:
        return None
    return from_outcome(outcome, body, with_traceback=False)
