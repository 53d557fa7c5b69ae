"""The connection to one pool's host, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from skipper.errors import UnavailableError
from skipper.outcomes import Outcome
from skipper.spec import FunctionSpec, is_private
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind, FrameProtocol

RECONNECT_S = 0.05


ANSWER_S = 10.0


UNSENT_BYTES = 64 << 20
"""A host that has let so much pile up does not read at the moment: nothing more is sent to it."""


SLOW_S = 0.1
"""A call that lasts longer than this is worth the trouble of noticing that its caller leaves."""


LATE_S = 3.0
"""A host that has not answered this long after a call's deadline is not going to."""


class PendingCall:
    """A call on its way: the future of its reply and, of a stream, the queue of its items.

    ``items`` begins with what serves the call (:func:`~skipper.wire.calls.served_by`), unless it
    fails before that, and ends with None. ``on_slow`` is given the call once, when it has lasted
    longer than :data:`SLOW_S`.
    """

    __slots__ = ("deadline", "id", "items", "link", "on_slow", "reply", "sent_at")

    def __init__(
        self, link: Link, id_: int, deadline: float, items: asyncio.Queue[bytes | None] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.link, self.id, self.deadline, self.items = link, id_, deadline, items
        self.on_slow: Callable[[PendingCall], None] | None = None
        self.sent_at = loop.time()
        self.reply: asyncio.Future[bytes] = loop.create_future()
        if items is not None:
            # On the reply, because that ends the items however the call ended.
            self.reply.add_done_callback(lambda _: items.put_nowait(None))

    def answer(self, payload: bytes) -> None:
        """End the call with this reply, unless it has ended."""
        if not self.reply.done():
            self.reply.set_result(payload)

    def give_up(self) -> None:
        """End the call without a reply, and have its host stop it: nobody wants the answer."""
        self.link.cancel(self)
        self.reply.cancel()


class Listener(Protocol):
    """Whoever is told what comes over a link unasked."""

    def learned(self) -> None:
        """What the host serves has changed, or its link has been made anew."""
        ...

    def tasks_changed(self, ids: list[str]) -> None:
        """The records of these tasks have changed."""
        ...

    def tasks_said(self, ids: list[str]) -> None:
        """These tasks have new events."""
        ...


class Link:
    """The connection to one pool's host; made again whenever it breaks."""

    def __init__(self, pool: str, path: Path, role: str, listener: Listener) -> None:
        self.pool, self._path, self._role, self._listener = pool, path, role, listener
        self.catalogue: dict[str, Any] | None = None
        self.functions: dict[str, FunctionSpec] = {}
        self.remembered: dict[str, FunctionSpec] = {}
        """``functions``, and those of the last host whose files this one has yet to read."""
        self._protocol: FrameProtocol | None = None
        self._waiting: dict[int, PendingCall] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._lost = asyncio.Event()
        self._made = asyncio.Event()

    @property
    def is_up(self) -> bool:
        return self._protocol is not None

    async def until_up(self, patience_s: float) -> None:
        """Wait for a host that is being started again. Raises UnavailableError."""
        try:
            await asyncio.wait_for(self._made.wait(), patience_s)
        except TimeoutError:
            raise UnavailableError(f"pool {self.pool} is not reachable at the moment") from None

    async def run(self) -> None:
        """Keep the link up, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            try:
                await loop.create_unix_connection(
                    lambda: FrameProtocol(self._frames, self._on_lost, self._on_made),
                    str(self._path),
                )
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            await self._lost.wait()
            await asyncio.sleep(RECONNECT_S)

    def call(
        self, payload: bytes, deadline: float, items: asyncio.Queue[bytes | None] | None = None
    ) -> PendingCall:
        """Send a call; ``deadline`` on this loop's monotonic clock. Raises UnavailableError.

        ``items`` is the queue of a stream's items, None for a call that wants one value.
        """
        protocol = self._protocol
        if protocol is None:
            raise UnavailableError(f"pool {self.pool} is not reachable at the moment")
        if protocol.is_full:
            raise UnavailableError(f"pool {self.pool} does not take what it is sent; try again")
        id_ = next(self._ids)
        waiting = self._waiting[id_] = PendingCall(self, id_, deadline, items)
        protocol.transport.write(frames.pack(FrameKind.CALL, id_, payload))
        return waiting

    def credit(self, waiting: PendingCall) -> None:
        """The caller has taken :data:`~skipper.wire.frames.CREDIT_ITEMS` more items."""
        if waiting.id in self._waiting and self._protocol is not None:
            self._protocol.send(FrameKind.CREDIT, waiting.id)

    def cancel(self, waiting: PendingCall) -> None:
        """Nobody wants the answer any more."""
        if self._waiting.pop(waiting.id, None) is not None and self._protocol is not None:
            self._protocol.send(FrameKind.CANCEL, waiting.id)

    async def ask(self, what: str, limit_s: float | None = None, **question: Any) -> Any:
        """The host's answer to a question. Raises UnavailableError where none comes in time."""
        limit_s = ANSWER_S if limit_s is None else limit_s
        if self._protocol is None:
            raise UnavailableError(f"pool {self.pool} is not reachable at the moment")
        id_ = next(self._ids)
        answer = self._answers[id_] = asyncio.get_running_loop().create_future()
        self._protocol.send_json(FrameKind.ASK, id_, {"what": what} | question)
        try:
            return await asyncio.wait_for(answer, limit_s)
        except TimeoutError:
            raise UnavailableError(
                f"pool {self.pool} did not answer within {limit_s:g} s"
            ) from None
        finally:
            self._answers.pop(id_, None)

    def nudge(self, task_id: str) -> None:
        """Tell the host of a task that has just been accepted."""
        if self._protocol is not None:
            self._protocol.send(FrameKind.NUDGE, 0, task_id.encode())

    def sweep(self, now: float) -> None:
        """Look after calls that last: they are slow, or their host hangs.

        Answers in the place of such a host, and has it stop those calls once it can.
        """
        for waiting in list(self._waiting.values()):
            if waiting.on_slow is not None and waiting.sent_at + SLOW_S < now:
                on_slow, waiting.on_slow = waiting.on_slow, None
                on_slow(waiting)
        told = f"the deadline passed and pool {self.pool} does not answer"
        late = [each for each in self._waiting.values() if each.deadline + LATE_S < now]
        for waiting in late:
            self.cancel(waiting)
            waiting.answer(calls.problem(Outcome.TIMED_OUT, told))

    def _on_made(self, protocol: FrameProtocol) -> None:
        self._protocol = protocol
        protocol.transport.set_write_buffer_limits(UNSENT_BYTES)
        # Perhaps a new host, which has not read its files yet: what the last one served is no use.
        self.catalogue, self.functions = None, {}
        self._listener.learned()
        self._made.set()
        protocol.send_json(FrameKind.HELLO, 0, {"role": self._role, "pid": os.getpid()})

    def _on_lost(self, protocol: FrameProtocol) -> None:
        del protocol
        self._protocol = None
        self._made.clear()
        for waiting in self._waiting.values():
            waiting.answer(
                calls.problem(
                    Outcome.DIED, f"the host of pool {self.pool} went away during the call"
                )
            )
        self._waiting.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(UnavailableError(f"pool {self.pool} went away"))
        self._lost.set()

    def _frames(self, protocol: FrameProtocol, frames: list[Frame]) -> None:
        for kind, id_, payload in frames:
            if kind == FrameKind.REPLY:
                waiting = self._waiting.pop(id_, None)
                if waiting is not None:
                    waiting.answer(payload)
            elif kind in (FrameKind.ITEM, FrameKind.SERVED):
                if (waiting := self._waiting.get(id_)) is not None and waiting.items is not None:
                    waiting.items.put_nowait(payload)
            elif kind == FrameKind.ANSWER:
                if (answer := self._answers.get(id_)) is not None and not answer.done():
                    answer.set_result(json.loads(payload))
            elif kind == FrameKind.CATALOGUE:
                self._learn(json.loads(payload))
            elif kind in (FrameKind.TASKS, FrameKind.SAID):
                told = self._listener
                hear = told.tasks_changed if kind == FrameKind.TASKS else told.tasks_said
                hear(payload.decode().split("\n"))

    def _learn(self, catalogue: dict[str, Any]) -> None:
        if self._role != "host":  # what is private is for functions, and a host answers for those
            offered = [item for item in catalogue["functions"] if not is_private(item["name"])]
            catalogue = catalogue | {"functions": offered}
        self.catalogue = catalogue
        specs = ({k: v for k, v in item.items() if k != "state"} for item in catalogue["functions"])
        self.functions = {spec.name: spec for spec in map(FunctionSpec.model_validate, specs)}
        self.remembered = {
            name: spec for name, spec in self.remembered.items() if self.may_come(name)
        } | self.functions
        self._listener.learned()

    def may_come(self, name: str) -> bool:
        """Whether the host has not read all files yet that may define ``name``."""
        loading = ["*"] if self.catalogue is None else self.catalogue["loading"]
        return "*" in loading or name.partition(".")[0] in loading
