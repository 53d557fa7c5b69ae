"""A generator's items between its host and whoever takes them. Knows no HTTP."""

from __future__ import annotations

import asyncio

from skipper.gateway.problems import Problem, from_outcome
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.link import PendingCall


class ItemStream:
    """A generator's items in their order, as they are made.

    The function makes no more than is taken: taking items gives credit for more. An item counts as
    taken when the next one is asked for. What leaves the stream before its end gives it up.
    """

    def __init__(self, pending: PendingCall, items: asyncio.Queue[bytes | None]) -> None:
        self._pending, self._items = pending, items
        self._first: bytes | None = None
        self._has_begun = False
        self._taken = 0
        """What has been taken since the last credit."""
        self._window = frames.FIRST_WINDOW
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
        if not self._has_begun:
            self._has_begun = True
            item, self._first = self._first, None
        else:
            if self._taken >= self._window // 2:
                self._give_credit()
            item = await self._items.get()
        if item is None:
            raise StopAsyncIteration
        self._taken += frames.weight(item)
        return item

    def _give_credit(self) -> None:
        """Let as much come as has been taken, and more: this caller reads."""
        more = min(self._taken, frames.WINDOW - self._window)
        self._window += more
        self._pending.link.credit(self._pending, self._taken + more)
        self._taken = 0

    @property
    def problem(self) -> Problem | None:
        """What ended the stream; None for its function's return, and after it was given up."""
        payload = self._pending.payload
        if payload is None:
            return None
        outcome, _, body = calls.parse_reply(payload)
        if outcome == Outcome.OK:
            return None
        return from_outcome(outcome, body, served=self.served, with_traceback=False)

    def give_up(self) -> None:
        """End the stream, which nobody reads any more; of one that has ended it changes nothing."""
        self._pending.give_up()
