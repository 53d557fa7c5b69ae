"""One attempt of a task on this host, and what the parts of the durable lane share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from skipper.failpoints import failpoint
from skipper.instance.wishes import PublishModel
from skipper.ledger import Ledger
from skipper.ledger.records import Claim
from skipper.outcomes import Outcome
from skipper.pool.durable.journal import Journal
from skipper.pool.metrics import PoolMetrics
from skipper.pool.peers import Peers
from skipper.pool.processes.instance import Instance, uncancelled
from skipper.pool.processes.version import FunctionVersion
from skipper.tasks.files import Files
from skipper.tasks.watchers import Watchers
from skipper.values.store import ValueStore
from skipper.wire import calls
from skipper.wire.events import RescuedModel, SavedModel


class PublicationDesk(Protocol):
    """What publishes models: :class:`~skipper.pool.durable.publications.Publications`."""

    async def publish(self, attempt: RunningAttempt, wish: PublishModel) -> bytes:
        """The JSON of the record. Raises SkipperError."""
        ...


@dataclass(eq=False, kw_only=True)
class RunningAttempt:
    """One attempt that this host runs. ``reply`` is the function's, else the host's own."""

    claim: Claim
    reply: asyncio.Future[bytes]
    version: FunctionVersion | None = None
    """What it runs, once that is found."""
    preparing: asyncio.Future[tuple[Instance[RunningAttempt], bytes]] | None = None
    """What comes before the call: finding the function, reading the input, starting a process."""
    instance: Instance[RunningAttempt] | None = None
    call_id: int = 0
    called_at: float = math.inf
    """When its function was called, on the monotonic clock."""
    models: list[SavedModel] = field(default_factory=list)
    rescued: list[RescuedModel] = field(default_factory=list)
    """What there is of models that could not be saved."""
    publications: PublicationDesk | None = None
    """What publishes models that it saves while it goes on, from its call on."""
    trying: asyncio.Future[str] | None = None
    """The trial of its models, once its function has answered."""
    verdict: bytes | None = None
    """What the host has decided meanwhile (cancelled, timed out); a value that comes still wins."""

    @property
    def code(self) -> str | None:
        """The code that it runs, whether or not it comes to a reply that says so."""
        return self.version.source.code if self.version else None

    @property
    def model(self) -> str | None:
        """The versions of models that serve it, as far as its host knows."""
        return (self.instance.versions or None) if self.instance else None

    def decide(self, outcome: Outcome, detail: str) -> None:
        """Say how it ends unless a value comes; the first word counts."""
        if self.verdict is None:
            self.verdict = calls.problem(outcome, detail)

    def cancel(self) -> None:
        """Decide that it ends as cancelled."""
        self.decide(Outcome.CANCELLED, "the task was cancelled")
        failpoint("tasks.cancelling")

    def judged(self, reply: bytes) -> bytes:
        """What a reply of its function counts as.

        A function that was asked to stop has no say in how that is called.
        """
        if self.verdict is None or reply[0] == Outcome.OK:
            return uncancelled(reply)
        return self.verdict


class RunningAttempts(dict[str, RunningAttempt]):
    """By the task's id: what the ledger has running here, in a slot, or just before or after it."""

    def priority_of(self, task_id: str) -> int | None:
        """The priority of a task that runs here; None where none does."""
        attempt = self.get(task_id)
        return attempt.claim.task.priority if attempt else None


@dataclass(frozen=True, kw_only=True)
class LaneContext:
    """What the parts of the lane share."""

    pool: str
    host_id: str
    ledger: Ledger
    journal: Journal
    values: ValueStore
    files: Files
    metrics: PoolMetrics
    peers: Peers
    watchers: Watchers

    def publish(self, ids: Iterable[str]) -> None:
        """Have those who watch these tasks look at their records again."""
        changed = list(ids)
        self.peers.publish_tasks(changed)
        self.watchers.changed(changed)
