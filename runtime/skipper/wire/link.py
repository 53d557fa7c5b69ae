"""The connection to one pool's host, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from skipper.errors import UnavailableError
from skipper.outcomes import Outcome
from skipper.spec import FunctionSpec, is_private
from skipper.values.spool import Spool
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind, FrameProtocol
from skipper.wire.handshake import introduced, introduction, mismatch
from skipper.wire.messages import A, CatalogueSnapshot, LinkRole, Question

log = logging.getLogger(__name__)

RECONNECT_S = 0.05
"""Pause before the next connection where a host is away or has gone."""
LAST_RETRY_S = 2.0
"""The longest pause where the host that is there is of another version."""
ANSWER_S = 10.0
UNSENT_BYTES = 64 << 20
"""A host that has let so much pile up does not read at the moment: nothing more is sent to it."""
LATE_S = 3.0
"""A host that has not answered this long after a call's deadline is not going to."""


def next_pause_s(last_s: float, *, is_incompatible: bool) -> float:
    """The pause before the next connection, after one of ``last_s``."""
    return min(2 * last_s, LAST_RETRY_S) if is_incompatible else RECONNECT_S


class PendingCall:
    """A call on its way. It ends once: with a reply's payload, or without one when it is given up.

    ``items``, of a stream, begins with what serves the call
    (:func:`~skipper.wire.calls.served_by`), unless it fails before that, and ends with None.
    """

    __slots__ = ("_on_end", "_reply", "deadline", "id", "is_over", "items", "link", "payload")

    def __init__(
        self, link: Link, id_: int, deadline: float, items: asyncio.Queue[bytes | None] | None
    ) -> None:
        self.link, self.id, self.deadline, self.items = link, id_, deadline, items
        self.is_over = False
        self.payload: bytes | None = None
        """The reply's; None until there is one, and for a call that was given up."""
        self._on_end: Callable[[bytes | None], None] | None = None
        self._reply: asyncio.Future[bytes] | None = None

    def when_over(self, do: Callable[[bytes | None], None]) -> None:
        """Call ``do`` with :attr:`payload` at the end; at once where that has come."""
        if self.is_over:
            do(self.payload)
        else:
            self._on_end = do

    @property
    def reply(self) -> asyncio.Future[bytes]:
        """The payload, to be awaited; cancelled when the call is given up."""
        if self._reply is None:
            self._reply = asyncio.get_running_loop().create_future()
            self.when_over(self._settle)
        return self._reply

    def answer(self, payload: bytes) -> None:
        """End the call with this reply, unless it has ended."""
        self._end(payload)

    def give_up(self) -> None:
        """End the call without a reply, and have its host stop it: nobody wants the answer."""
        self.link.cancel(self)
        self._end(None)

    def _end(self, payload: bytes | None) -> None:
        if self.is_over:
            return
        self.is_over, self.payload = True, payload
        if self.items is not None:
            self.items.put_nowait(None)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(payload)

    def _settle(self, payload: bytes | None) -> None:
        assert self._reply is not None
        if payload is None:
            self._reply.cancel()
        elif not self._reply.done():  # whoever awaited it may have been cancelled
            self._reply.set_result(payload)


class Listener(Protocol):
    """Gets what comes over a link unasked."""

    def on_catalogue(self) -> None:
        """What the host serves has changed, or whether this process talks to it."""
        ...

    def on_tasks(self, ids: list[str]) -> None:
        """The records of these tasks have changed."""
        ...

    def on_task_events(self, ids: list[str]) -> None:
        """These tasks have new events."""
        ...


class Link:
    """The connection to one pool's host; made again whenever it breaks.

    It is up once both sides have introduced themselves. With a host of another version it never
    is: that is logged once, and tried again less and less often. What lies in ``spool`` for a
    reply that nobody waits for any more is removed.
    """

    def __init__(
        self,
        pool: str,
        path: Path,
        role: LinkRole,
        listener: Listener,
        *,
        spool: Spool | None = None,
        unsent_bytes: int = UNSENT_BYTES,
    ) -> None:
        self.pool, self._path, self._role, self._listener = pool, path, role, listener
        self._spool, self._unsent_bytes = spool, unsent_bytes
        self.catalogue: CatalogueSnapshot | None = None
        self.functions: dict[str, FunctionSpec] = {}
        self.remembered: dict[str, FunctionSpec] = {}
        """``functions``, and those of the last host whose files this one has yet to read."""
        self.incompatible = ""
        """Why this process does not talk to the host that is there; empty where it does."""
        self._logged = ""
        """The last such reason that was logged."""
        self._connection: FrameProtocol | None = None
        """Set while the link is up."""
        self._pending: dict[int, PendingCall] = {}
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._ids = itertools.count(1)
        self._lost = asyncio.Event()
        self._made = asyncio.Event()

    @property
    def is_up(self) -> bool:
        return self._connection is not None

    @property
    def loading(self) -> tuple[str, ...]:
        """Sources that the host still reads; ``*`` where that is not known."""
        return ("*",) if self.catalogue is None else self.catalogue.loading

    def may_come(self, name: str) -> bool:
        """Whether the host has not read all files yet that may define ``name``."""
        return "*" in self.loading or name.partition(".")[0] in self.loading

    async def until_up(self, patience_s: float) -> None:
        """Wait for a host that is being started again. Raises UnavailableError."""
        if self.incompatible:
            raise self._away()
        try:
            await asyncio.wait_for(self._made.wait(), patience_s)
        except TimeoutError:
            raise self._away() from None

    async def run(self) -> None:
        """Keep the link up, for ever."""
        loop, pause_s = asyncio.get_running_loop(), RECONNECT_S
        while True:
            self._lost.clear()
            try:
                await loop.create_unix_connection(
                    lambda: FrameProtocol(self._on_frames, self._on_lost, self._on_connected),
                    str(self._path),
                )
            except OSError:
                self.incompatible = ""  # whoever it was has gone
            else:
                await self._lost.wait()
            pause_s = next_pause_s(pause_s, is_incompatible=bool(self.incompatible))
            await asyncio.sleep(pause_s)

    # --- what goes out

    def call(
        self, payload: bytes, deadline: float, items: asyncio.Queue[bytes | None] | None = None
    ) -> PendingCall:
        """Send a call; ``deadline`` on this loop's monotonic clock. Raises UnavailableError.

        ``items`` is the queue of a stream's items, None for a call that wants one value.
        """
        return self._send(FrameKind.CALL, payload, deadline, items)

    async def check(self, payload: bytes, limit_s: float) -> bytes:
        """The reply to whether a call's body matches; UNAVAILABLE where none comes in time.

        Raises UnavailableError where the host cannot be asked.
        """
        loop = asyncio.get_running_loop()
        pending = self._send(FrameKind.CHECK, payload, loop.time() + limit_s)
        detail = f"pool {self.pool} could not check the input within {limit_s:g} s"
        # Not wait_for, because that makes a future and callbacks of its own for each task.
        late = loop.call_later(limit_s, self._answer_late, pending, detail)
        try:
            return await pending.reply
        finally:
            late.cancel()
            self.cancel(pending)  # which does nothing where it has been answered

    def _answer_late(self, pending: PendingCall, detail: str) -> None:
        pending.answer(calls.problem(Outcome.UNAVAILABLE, detail))

    def _send(
        self,
        kind: int,
        payload: bytes,
        deadline: float,
        items: asyncio.Queue[bytes | None] | None = None,
    ) -> PendingCall:
        connection = self._connection
        if connection is None:
            raise self._away()
        if connection.is_full:
            raise UnavailableError(f"pool {self.pool} does not take what it is sent; try again")
        id_ = next(self._ids)
        pending = self._pending[id_] = PendingCall(self, id_, deadline, items)
        connection.transport.write(frames.pack(kind, id_, payload))
        return pending

    def credit(self, pending: PendingCall, taken: int) -> None:
        """The caller has taken more items, of this weight (:func:`~skipper.wire.frames.weight`)."""
        if pending.id in self._pending and self._connection is not None:
            self._connection.send(FrameKind.CREDIT, pending.id, frames.credit(taken))

    def cancel(self, pending: PendingCall) -> None:
        """Nobody wants the answer any more."""
        if self._pending.pop(pending.id, None) is not None and self._connection is not None:
            self._connection.send(FrameKind.CANCEL, pending.id)

    async def ask(self, question: Question[A], limit_s: float = ANSWER_S) -> A:
        """The host's answer to a question. Raises UnavailableError where none comes in time."""
        if self._connection is None:
            raise self._away()
        id_ = next(self._ids)
        answer = self._answers[id_] = asyncio.get_running_loop().create_future()
        self._connection.send(FrameKind.ASK, id_, question.to_json())
        try:
            return question.parse_answer(await asyncio.wait_for(answer, limit_s))
        except TimeoutError:
            detail = f"pool {self.pool} did not answer within {limit_s:g} s"
        except ValueError as error:
            detail = f"the answer of pool {self.pool} cannot be read: {error}"
        finally:
            self._answers.pop(id_, None)
        raise UnavailableError(detail)

    def nudge(self, task_id: str) -> None:
        """Hint to the host that a task has just been accepted."""
        if self._connection is not None:
            self._connection.send(FrameKind.NUDGE, 0, task_id.encode())

    def sweep(self, now: float) -> None:
        """Answer in the place of a host that hangs, and have it stop those calls once it can."""
        detail = f"the deadline passed and pool {self.pool} does not answer"
        late = [each for each in self._pending.values() if each.deadline + LATE_S < now]
        for pending in late:
            self.cancel(pending)
            pending.answer(calls.problem(Outcome.TIMED_OUT, detail))

    def _away(self) -> UnavailableError:
        """Why nothing can be sent to the host."""
        away = f"pool {self.pool} is not reachable at the moment"
        return UnavailableError(self.incompatible or away)

    # --- the connection

    def _on_connected(self, connection: FrameProtocol) -> None:
        connection.transport.set_write_buffer_limits(self._unsent_bytes)
        connection.send(FrameKind.HELLO, 0, introduction(self._role))

    def _on_lost(self, connection: FrameProtocol) -> None:
        del connection
        self._connection = None
        self._made.clear()
        detail = f"the host of pool {self.pool} went away during the call"
        lost, self._pending = self._pending, {}  # first, because an end may begin another call
        for pending in lost.values():
            pending.answer(calls.problem(Outcome.DIED, detail))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(UnavailableError(f"pool {self.pool} went away"))
        self._lost.set()

    def _on_hello(self, connection: FrameProtocol, first: Frame) -> bool:
        """The host has introduced itself. Whether the link is up now: else the two do not talk."""
        peer, number = f"the host of pool {self.pool}", introduced(first).protocol
        if reason := mismatch(peer, number, f"this {self._role}"):
            self._leave(connection, reason)
            return False
        self._connection, self.incompatible = connection, ""
        # Perhaps a new host, which has not read its files yet: what the last one served is no use.
        self._forget_catalogue()
        self._made.set()
        return True

    def _leave(self, connection: FrameProtocol, reason: str) -> None:
        """Hang up on a host of another version."""
        self._connection, self.incompatible = None, reason
        if reason != self._logged:
            self._logged = reason
            log.error(reason)
        self._forget_catalogue()
        connection.transport.close()

    def _forget_catalogue(self) -> None:
        self.catalogue, self.functions = None, {}
        self._listener.on_catalogue()

    def _on_frames(self, connection: FrameProtocol, received: list[Frame]) -> None:
        if connection is not self._connection and not self._on_hello(connection, received.pop(0)):
            return
        for kind, id_, payload in received:
            if kind == FrameKind.REPLY:
                pending = self._pending.pop(id_, None)
                if pending is not None:
                    pending.answer(payload)
                elif self._spool is not None:
                    self._spool.remove(calls.spooled_in_reply(payload))
            elif kind in (FrameKind.ITEM, FrameKind.SERVED):
                if (pending := self._pending.get(id_)) is not None and pending.items is not None:
                    pending.items.put_nowait(payload)
            else:
                self._on_message(connection, kind, id_, payload)

    def _on_message(self, connection: FrameProtocol, kind: int, id_: int, payload: bytes) -> None:
        """A frame that is not about a call."""
        if kind in (FrameKind.ANSWER, FrameKind.REFUSED):
            answer = self._answers.get(id_)
            if answer is None or answer.done():
                return
            if kind == FrameKind.ANSWER:
                answer.set_result(payload)
            else:
                answer.set_exception(
                    UnavailableError(f"pool {self.pool}: {payload.decode(errors='replace')}")
                )
        elif kind == FrameKind.CATALOGUE:
            try:
                self._take_over(CatalogueSnapshot.parse(payload))
            except ValueError as error:
                detail = f"what the host of pool {self.pool} serves cannot be read: {error}"
                self._leave(connection, detail)
        elif kind == FrameKind.TASKS:
            self._listener.on_tasks(payload.decode("ascii", "replace").split("\n"))
        elif kind == FrameKind.TASK_EVENTS:
            self._listener.on_task_events(payload.decode("ascii", "replace").split("\n"))

    def _take_over(self, catalogue: CatalogueSnapshot) -> None:
        functions = catalogue.functions
        if self._role != LinkRole.HOST:
            # what is private is for functions, and a host answers for those
            functions = tuple(each for each in functions if not is_private(each.spec.name))
        self.catalogue = catalogue.model_copy(update={"functions": functions})
        self.functions = {each.spec.name: each.spec for each in functions}
        self.remembered = {
            name: spec for name, spec in self.remembered.items() if self.may_come(name)
        } | self.functions
        self._logged = ""
        self._listener.on_catalogue()
