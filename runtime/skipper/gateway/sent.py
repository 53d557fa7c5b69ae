"""A call that is on its way to a host, and the caller who may leave before it is answered."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from skipper.wire.link import PendingCall


class Sent:
    """A call that is on its way.

    Of a stream, ``items`` begins with what serves it, unless it is refused, and ends with None.
    """

    def __init__(self, waiting: PendingCall, items: asyncio.Queue[bytes | None] | None) -> None:
        self.waiting, self.items = waiting, items
        if items is not None:
            waiting.reply.add_done_callback(lambda _: items.put_nowait(None))

    def give_up(self) -> None:
        """Nobody wants the answer any more."""
        self.waiting.link.cancel(self.waiting)
        self.waiting.reply.cancel()


async def reply_to(sent: Sent, receive: Receive) -> bytes | None:
    """The reply, or None where the caller left before it came."""
    reply = sent.waiting.reply
    watch: asyncio.Task[None] | None = None

    def start_watching() -> None:
        nonlocal watch
        watch = asyncio.ensure_future(until_gone(receive, sent))

    sent.waiting.on_slow = start_watching
    try:
        return await reply
    except asyncio.CancelledError:
        sent.give_up()
        if watch is not None and watch.done():
            return None
        raise
    finally:
        sent.waiting.on_slow = None
        if watch is not None:
            watch.cancel()


async def until_gone(receive: Receive, sent: Sent) -> None:
    """Give the call up when its caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    sent.give_up()
