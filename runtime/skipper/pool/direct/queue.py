"""The calls of one edition of a function, and the instances that they may go to."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import NamedTuple, Protocol

from skipper import shares
from skipper.pool.metrics import CallFigures
from skipper.pool.processes.instance import Instance
from skipper.pool.processes.version import Edition
from skipper.spec import BrokenFile, FunctionSpec
from skipper.wire import calls
from skipper.wire.calls import CallKey
from skipper.wire.frames import FrameKind

RUNS = 16
"""How many runs the mean of their times looks back on, more or less."""
AHEAD_S = 0.01
"""A call that lies ready in a busy instance should have its turn within this time."""
AHEAD = 8
"""Most calls that lie ready in one instance."""
AHEAD_BYTES = 64 << 10
"""The largest call that lies ready in an instance."""
UNKNOWN_S = 1.0
"""What is believed of code that has not run yet: that it takes long."""
_FADES = 0.95
"""How much of the longest run is still believed after another one."""
_ALL_OF_IT_S = 0.001
"""A call that comes to its instance within this time has as much left as it came with, in ms."""


class Origin(Protocol):
    """Whoever sent a call and is sent what comes of it."""

    def send(self, kind: int, id_: int, payload: bytes) -> None:
        """A frame of the call with this id, before its reply."""

    def answer(self, id_: int, payload: bytes) -> None:
        """The reply to the call with this id."""

    def discard(self, payload: bytes) -> None:
        """A reply that is not wanted any more: what lies in the spool for it goes."""


class DirectCall:
    """A direct call from its arrival to its one answer."""

    __slots__ = (
        "deadline",
        "depth",
        "failures",
        "has_streamed",
        "id",
        "instance",
        "is_answered",
        "origin",
        "payload",
        "queue",
        "received",
        "size",
        "started",
    )

    def __init__(
        self, origin: Origin, id_: int, payload: bytes, queue: EditionQueue, key: CallKey
    ) -> None:
        self.origin, self.id, self.payload, self.queue = origin, id_, payload, queue
        self.size = len(payload)
        self.received = self.started = now = time.monotonic()
        self.deadline = now + key.budget_ms / 1000 if key.budget_ms else math.inf
        self.depth = key.depth
        self.instance: Instance[DirectCall] | None = None
        self.is_answered = self.has_streamed = False
        self.failures = 0
        """How many of its runs have failed so far."""

    def payload_at(self, now: float) -> bytes:
        """The payload with what is left of its time."""
        if now - self.received < _ALL_OF_IT_S or self.deadline == math.inf:
            return self.payload
        return calls.with_budget(self.payload, max(1, int((self.deadline - now) * 1000)))


class Canary(NamedTuple):
    """That a part of the calls of an edition go to ``queue`` in its place, for a model's sake."""

    queue: EditionQueue
    model: str
    percent: float

    def takes(self, payload: bytes) -> bool:
        """Whether a call is of that part. None is while nothing there could run it."""
        if not self.queue.instances:
            return False
        return shares.is_among(self.model, calls.sticky_key(payload), self.percent)


class EditionQueue:
    """One edition of a function: the instances that have loaded it, the calls that wait for them.

    Editions of one function stand side by side, each with calls and instances of its own, so that a
    call is never run by a version, of the code or of a model, that it was not sent to, no batch has
    two of them, and one edition's trouble is not another's.
    """

    def __init__(self, edition: Edition) -> None:
        self.edition, self.version = edition, edition.version
        self.spec: FunctionSpec = edition.version.spec
        self.instances: list[Instance[DirectCall]] = []
        """Those that may be sent calls, the one used last at the end."""
        self.follows = b""
        """The deployments that its replies name."""
        self.starting = 0
        self.canary: Canary | None = None
        """Where a part of its calls goes."""
        self.figures = CallFigures()
        """The calls that it has answered."""
        self.is_current = False
        """Whether the calls of its version go to it."""
        self.is_retired = False
        """No call is sent to it any more."""
        self.calls: deque[DirectCall] = deque()
        self.is_in_ring = False
        """Whether the lane has it among those whose calls wait for their turn."""
        self.is_alarmed = False
        """Whether a timer will wake its batch."""
        self.run_s = 0.0
        """How long an instance is busy with one call, or one batch of them: a running mean."""
        self.longest_s = UNKNOWN_S
        """The longest such time of late: long until a hundred runs or so say otherwise."""
        self.load_error: BrokenFile | None = None
        """Why no instance can serve; tried again from time to time."""
        self.is_wanted = False
        """Whether a call was refused for that: so an instance is started as soon as one may be."""
        self.retry_at = 0.0
        self.failures = 0

    def follow(self, deployments: bytes) -> None:
        """Have the replies to calls that are sent from now on name these deployments."""
        if deployments != self.follows:
            self.follows = deployments
            for each in self.instances:
                each.send(FrameKind.FOLLOWS, 0, deployments)

    def add(self, instance: Instance[DirectCall]) -> None:
        """Send calls to an instance, too, that has loaded it."""
        if self.follows:
            instance.send(FrameKind.FOLLOWS, 0, self.follows)
        self.instances.append(instance)

    def tell(self) -> None:
        """Have the version say whether a call would find an instance, or get why none starts."""
        if self.is_current:
            self.version.problem = None if self.instances else self.load_error

    def due_in(self, now: float) -> float:
        """Seconds until the calls that wait may go as a batch; none left where it is full."""
        wait_s = self.spec.batch_wait_s
        if not wait_s or len(self.calls) >= self.spec.batch:
            return 0.0
        return self.calls[0].received + wait_s - now

    def ran(self, seconds: float) -> None:
        """Take in that an instance was busy for so long."""
        if seconds > 0:  # it shows nothing where the instance is being ended
            self.run_s += (seconds - self.run_s) / RUNS
            self.longest_s = max(seconds, self.longest_s * _FADES)

    @property
    def ahead(self) -> int:
        """How many further calls may lie ready in an instance that runs one.

        So that a quick function need not wait for its host between two calls. None where calls have
        taken long lately: one that lies there cannot be given to another instance.
        """
        if not self.version.may_lie_ready:
            return 0
        return min(AHEAD, int(AHEAD_S / self.longest_s))

    @property
    def is_active(self) -> bool:
        """Whether there is anything to look after: most of many functions are not called."""
        return bool(self.calls or self.instances or self.spec.min_instances or self.is_wanted)
