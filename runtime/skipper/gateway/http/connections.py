"""All connections of this process: how many there may be, and how long each may keep still.

One timer looks at all of them. So nothing per request has to be timed, and what a caller keeps
waiting costs the same whether it is one connection or thousands.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from skipper.gateway.budget import Budget
from skipper.gateway.http.access_log import AccessLog
from skipper.gateway.http.limits import HEADS_BYTES, Limits
from skipper.gateway.http.refusals import Complaints

SWEEP_S = 0.5
_HAS_LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class Watched(Protocol):
    """A connection, as it is looked after."""

    def check(self, now: float, limits: Limits) -> None:
        """End it if it has kept still for too long."""
        ...

    def make_room(self) -> None:
        """End it: it waits for a request, and others want its place."""
        ...

    def cut(self) -> None:
        """End it, and tell its caller if that waits for an answer."""
        ...

    def leave(self) -> None:
        """End it: its caller has left."""
        ...

    @property
    def descriptor(self) -> int:
        """That of its socket."""
        ...


class Connections:
    """The connections of one process.

    Each request is told to ``access_log``, where there is one.
    ``open`` and ``tasks`` are what a shutdown waits for; they are the server's own.
    """

    def __init__(
        self,
        limits: Limits,
        budget: Budget,
        *,
        access_log: AccessLog | None = None,
        open_: set[Any] | None = None,
        tasks: set[asyncio.Task[None]] | None = None,
    ) -> None:
        self.limits, self.budget, self.access_log = limits, budget, access_log
        self.open: set[Any] = set() if open_ is None else open_
        self.tasks: set[asyncio.Task[None]] = set() if tasks is None else tasks
        self.complaints = Complaints()
        self._waiting: OrderedDict[Watched, None] = OrderedDict()
        """Those on which no request is answered, the longest waiting first."""
        self._heads: OrderedDict[Watched, int] = OrderedDict()
        """Those with half a head, and how much it has, the oldest first."""
        self._head_bytes = 0
        self._unread: set[Watched] = set()
        """Those that are not read at the moment, on which nobody would see that a caller leaves."""

    def admit(self, connection: Watched) -> bool:
        """Take a connection in, if need be for one that waits; False where there is no room."""
        if len(self.open) >= self.limits.connections:
            if not self._waiting:
                return False
            self._end(next(iter(self._waiting)))
        self.open.add(connection)
        self._waiting[connection] = None
        return True

    def forget(self, connection: Watched) -> None:
        """A connection has ended."""
        self.open.discard(connection)
        self._waiting.pop(connection, None)
        self._unread.discard(connection)
        self.head_ends(connection)

    # --- what a connection tells

    def waits(self, connection: Watched) -> None:
        """It waits for its next request."""
        self._waiting[connection] = None

    def works(self, connection: Watched) -> None:
        """A request has come whole, up to its body."""
        self._waiting.pop(connection, None)

    def head_grows(self, connection: Watched, size: int) -> None:
        """It has ``size`` bytes of a head. Where heads take too much, the oldest go."""
        self._head_bytes += size - self._heads.get(connection, 0)
        self._heads[connection] = size
        while self._head_bytes > HEADS_BYTES:
            self._end(next(iter(self._heads)))

    def head_ends(self, connection: Watched) -> None:
        """It has no half head any more."""
        if self._heads:
            self._head_bytes -= self._heads.pop(connection, 0)

    def is_read(self, connection: Watched, *, is_read: bool) -> None:
        """Whether what comes on it is received now."""
        (self._unread.discard if is_read else self._unread.add)(connection)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task that a shutdown waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def cut(self) -> None:
        """End them all: a shutdown has waited for as long as it does."""
        for connection in tuple(self.open):
            connection.cut()

    # --- the one timer

    @contextlib.asynccontextmanager
    async def swept(self) -> AsyncIterator[None]:
        """Look after all connections for as long as the block lasts."""
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.look(loop.time())

    def look(self, now: float) -> None:
        """End what has kept still for too long, and what nobody is at the other end of."""
        for connection in tuple(self.open):
            connection.check(now, self.limits)
        if self._unread:
            for connection in _left(self._unread):
                connection.leave()

    def _end(self, connection: Watched) -> None:
        self.forget(connection)
        connection.make_room()


def _left(connections: set[Watched]) -> list[Watched]:
    """Those whose callers have left."""
    by_descriptor = {each.descriptor: each for each in connections}
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, _HAS_LEFT)
    return [by_descriptor[found] for found, _ in poll.poll(0)]
