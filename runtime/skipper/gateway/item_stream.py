"""A generator's items between its host and whoever takes them. Knows no HTTP."""

from __future__ import annotations

import asyncio

from skipper.gateway.problems import Problem, from_outcome
from skipper.outcomes import Outcome
from skipper.wire import calls
from skipper.wire.frames import CREDIT_ITEMS
from skipper.wire.link import PendingCall


class ItemStream:
    """A generator's items in their order, as they are made.

    The function makes no more items than are taken: taking them gives credit for more. What leaves
    the stream before its end gives it up.
    """

    def __init__(self, pending: PendingCall, items: asyncio.Queue[bytes | None]) -> None:
        self._pending, self._items = pending, items
        self._first: bytes | None = None
        self._taken = 0
        self.served = b""
        """What serves the call; known once :meth:`begin` has returned."""

    async def begin(self) -> None:
        """Wait for the first item, or for the end. Raises Problem if it fails before that."""
        served = await self._items.get()
        if served is not None:
            self.served = served
            self._first = await self._items.get()
        if self._first is None and (problem := self.problem) is not None:
            raise problem

    def __aiter__(self) -> ItemStream:
        return self

    async def __anext__(self) -> bytes:
        item = self._first
        if self._taken:
            if self._taken % CREDIT_ITEMS == 0:
                self._pending.link.credit(self._pending)
            item = await self._items.get()
        if item is None:
            raise StopAsyncIteration
        self._taken += 1
        return item

    @property
    def problem(self) -> Problem | None:
        """What ended the stream; None for its function's return, and after it was given up."""
        if self._pending.reply.cancelled():
            return None
        outcome, _, body = calls.parse_reply(self._pending.reply.result())
        if outcome == Outcome.OK:
            return None
        return from_outcome(outcome, body, served=self.served, with_traceback=False)

    def give_up(self) -> None:
        """End the stream, which nobody reads any more; of one that has ended it changes nothing."""
        self._pending.give_up()
