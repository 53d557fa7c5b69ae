"""A process of the pool that runs calls, and those who get what comes of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from typing import Generic, Protocol, TypeVar

from skipper.instance.jobs import Job, Report
from skipper.instance.link import OWN
from skipper.outcomes import Outcome
from skipper.pool.processes.output import Printed
from skipper.pool.processes.process import InstanceProcess, InstanceState, Lane
from skipper.pool.processes.version import FunctionVersion
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.lines import Cause

C = TypeVar("C")
"""A call, as the lane that sends it knows it."""
_CANCELLED = Outcome.CANCELLED.value
_IDLE, _BUSY, _HELD, _TAKE_CALLS = (
    InstanceState.IDLE,
    InstanceState.BUSY,
    InstanceState.HELD,
    (InstanceState.IDLE, InstanceState.BUSY),
)
"""Looked up at every call, where a member of an enum takes far longer."""


class InstanceOwner(Protocol[C]):
    """Whoever has instances started, and gets what comes of them."""

    @property
    def lane(self) -> Lane: ...

    def on_frame(self, instance: Instance[C], frame: Frame) -> None:
        """A frame of a call that the instance runs."""

    def on_printed(self, instance: Instance[C], printed: Printed) -> Cause | None:
        """Lines of its output. Returns what those are due to that do not say so themselves."""

    def on_worn(self, instance: Instance[C]) -> None:
        """It has filled most of the memory that it may take."""

    def on_gone(self, instance: Instance[C]) -> None:
        """Its process has ended; so have its calls."""

    def lend_slot(self) -> None:
        """An instance in a slot waits for a call of its own: others may have its slot meanwhile."""

    def take_back_slot(self) -> None:
        """It goes on, even if that is one more than there are slots."""

    def threads_for(self, version: FunctionVersion) -> int | None:
        """How many threads an instance that is started now is to compute on.

        None: its lane's usual share of the cores.
        """


class SlotlessOwner(Generic[C]):
    """What an :class:`InstanceOwner` does whose instances have no slots."""

    lane = Lane.READING

    def on_printed(self, instance: Instance[C], printed: Printed) -> Cause | None: ...

    def on_worn(self, instance: Instance[C]) -> None: ...

    def lend_slot(self) -> None: ...

    def threads_for(self, _: object) -> int | None:
        return None

    def take_back_slot(self) -> None: ...


class JobRunner(Protocol):
    """What starts instances: :class:`~skipper.pool.processes.instances.Instances`."""

    async def run(self, job: Job, owner: InstanceOwner[C]) -> tuple[Instance[C], Report]:
        """Start an instance; it, with its report. Raises OSError or TimeoutError if none comes."""


class NestedCalls(Protocol):
    """Whoever answers the calls that instances make themselves."""

    def on_frame(self, instance: Instance[C], frame: Frame) -> None:
        """A call of an instance, or that it wants the answer to one no more."""


class InstanceWatch(Protocol):
    """Whoever keeps watch over all instances of a pool, whosever they are."""

    def on_printed(self, instance: InstanceProcess, printed: Printed, cause: Cause | None) -> None:
        """Lines of output, and what those are due to that do not say so themselves."""

    def on_gone(self, instance: InstanceProcess) -> None:
        """Its process has ended; its owner is next to know."""


class Instance(InstanceProcess, Generic[C]):
    """A process that runs calls of one function. What comes of them goes to its ``owner``."""

    def __init__(
        self, job: Job, owner: InstanceOwner[C], watch: InstanceWatch, nested: NestedCalls
    ) -> None:
        super().__init__(job)
        self._owner, self._watch, self._nested = owner, watch, nested
        self.calls: dict[int, C] = {}
        """The calls it runs, by id."""
        self.waiting = 0
        """Of its calls, how many wait for a call of their own."""
        self.called = 0
        """How many calls it has been given so far."""
        self.is_worn = False
        """It has used most of its memory, or run often enough: a fresh one is to take its place."""
        self.held_at = math.inf
        """Since when it is sent no calls, because it does not come to those that it has."""
        self.recalled: dict[int, float] = {}
        """When it was last asked to give a call back, by the call's id."""
        self._last_id = 0
        self.threads = self.threads_told = job.threads
        """On how many threads it computes, as far as it has said; and the last that it was told."""
        self.told_at = -math.inf
        self._has_answered = asyncio.Event()
        self._has_answered.set()

    @property
    def lane(self) -> Lane:
        return self._owner.lane

    @property
    def running(self) -> int:
        return len(self.calls)

    @property
    def takes_calls(self) -> bool:
        """Whether it has reported, and is not being ended."""
        return self.state in _TAKE_CALLS

    # --- calls ---

    def call(self, payload: bytes, call: C) -> int:
        """Send a call; frames with the returned id belong to it."""
        id_ = self._enter(call)
        self._transport.write(frames.pack(FrameKind.CALL, id_, payload))
        return id_

    def call_batch(self, calls: list[tuple[bytes, C]]) -> None:
        """Send calls that are to run as one."""
        packed = [
            frames.pack(FrameKind.CALL, self._enter(call), payload) for payload, call in calls
        ]
        self._transport.write(frames.pack(FrameKind.BATCH, 0, *packed))

    def check(self, payload: bytes, call: C) -> None:
        """Send a call of which only the body is to be judged."""
        self._transport.write(frames.pack(FrameKind.CHECK, self._enter(call), payload))

    def _enter(self, call: C) -> int:
        self._last_id = id_ = self._last_id + 1
        self.calls[id_] = call
        self.called += 1
        self.state = _BUSY
        return id_

    @property
    def _transport(self) -> asyncio.Transport:
        assert self._protocol is not None
        return self._protocol.transport

    def done(self, id_: int) -> C | None:
        """The call with this id has ended; what it was, or None where it is not known."""
        call = self.calls.pop(id_, None)
        if self.state is _BUSY:
            self.idle_since = time.monotonic()
            if not self.calls:
                self.state = _IDLE
        elif self.state is _HELD:
            self.go_on()
        return call

    # --- calls that it does not come to ---

    def recall(self, id_: int, now: float) -> None:
        """Ask for a call back that may not have begun."""
        self.recalled[id_] = now
        self.send(FrameKind.RECALL, id_)

    def give_back(self, id_: int) -> C | None:
        """It does not run this call; what it was, or None where it is not known."""
        return self.calls.pop(id_, None)

    def hold(self, now: float) -> None:
        """Send it no calls until it has answered one or says that it goes on."""
        if self.state in _TAKE_CALLS:
            self.state, self.held_at = _HELD, now

    def go_on(self) -> None:
        """It comes to its calls again."""
        if self.state is _HELD:
            self.state, self.held_at = _BUSY if self.calls else _IDLE, math.inf
            self.idle_since = time.monotonic()

    def end_calls(self) -> list[C]:
        """Whatever it runs has ended with it; the calls, in the order in which it had them."""
        calls = list(self.calls.values())
        for id_ in list(self.calls):
            self.done(id_)
        return calls

    def cancel(self, id_: int) -> None:
        """Ask the function to stop by itself."""
        self.send(FrameKind.CANCEL, id_)

    # --- threads ---

    @property
    def is_telling(self) -> bool:
        """Whether it has been told a number of threads and has not answered yet."""
        return not self._has_answered.is_set()

    def tell_threads(self, threads: int, now: float) -> None:
        """Have it compute on so many threads: from its next call on, or as soon as it can be told.

        Tells again, if need be, where that was not answered: a function may be deaf for a while.
        """
        if threads != self.threads_told:
            self._has_answered.clear()
            self.threads_told = threads
            self.send(FrameKind.THREADS, 0, b"%d" % threads)
        self.told_at = now
        if self.calls:
            self.signal(signal.SIGURG)

    async def until_told(self, timeout_s: float) -> None:
        """Wait for its answer, for so long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_answered.wait(), timeout_s)

    def _answered_threads(self, frame: Frame) -> None:
        self.threads = int(frame.payload)
        self._has_answered.set()

    # An instance has one slot while it runs calls, however many, and lends it while one waits.

    def begin_wait(self) -> None:
        """One of its calls waits for a call of its own."""
        if self.state is InstanceState.GONE:
            return
        self.waiting += 1
        if self.waiting == 1 and self.calls:
            self._owner.lend_slot()

    def end_wait(self) -> None:
        """That call has been answered."""
        if self.state is InstanceState.GONE:  # its slot was settled when it went
            return
        self.waiting -= 1
        if not self.waiting and self.calls:
            self._owner.take_back_slot()

    # --- what comes of it ---

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == FrameKind.THREADS:
            self._answered_threads(frame)
        elif frame.id >= OWN:
            self._nested.on_frame(self, frame)
        else:
            self._owner.on_frame(self, frame)

    def _on_printed(self, printed: Printed) -> None:
        self._watch.on_printed(self, printed, self._owner.on_printed(self, printed))

    def _on_gone(self) -> None:
        self._has_answered.set()
        self._watch.on_gone(self)
        self._owner.on_gone(self)

    def wear(self) -> None:
        self._owner.on_worn(self)


def uncancelled(reply: bytes) -> bytes:
    """What a function's reply means where nobody cancelled it: to end as cancelled is to fail."""
    if reply[0] != _CANCELLED:
        return reply
    _, served, _ = calls.parse_reply(reply)
    detail = (
        "it ended as cancelled (skipper.Cancelled, asyncio.CancelledError), and nobody cancelled it"
    )
    return calls.problem(Outcome.FAILED, detail, served)
