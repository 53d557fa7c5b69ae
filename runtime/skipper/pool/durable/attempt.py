"""One attempt of a task on this host, and what the durable lane needs of the host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from skipper.instance.jobs import Report
from skipper.ledger import Ledger
from skipper.ledger.records import Claim
from skipper.outcomes import Outcome
from skipper.pool.durable.journal import Journal
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.instance import Instance
from skipper.pool.processes.version import FunctionVersion
from skipper.values.store import ValueStore
from skipper.wire import calls
from skipper.wire.events import SavedModel


@dataclass(eq=False, kw_only=True)
class RunningAttempt:
    """One attempt that this host runs. ``reply`` is the function's, else the host's own."""

    claim: Claim
    reply: asyncio.Future[bytes]
    version: FunctionVersion | None = None
    """What it runs, once that is found."""
    preparing: asyncio.Future[tuple[Instance, bytes]] | None = None
    """What comes before the call: finding the function, reading the input, starting a process."""
    instance: Instance | None = None
    call_id: int = 0
    models: list[SavedModel] = field(default_factory=list)
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


@dataclass(frozen=True, kw_only=True)
class LaneContext:
    """What the lane needs of its host."""

    ledger: Ledger
    journal: Journal
    values: ValueStore
    find: Callable[[str], Awaitable[FunctionVersion | None]]
    start: Callable[[FunctionVersion], Awaitable[tuple[Instance, Report]]]
    untrained: Callable[[FunctionVersion], str]
    announce_models: Callable[[], Awaitable[None]]
    changed: Callable[[Iterable[str]], None]
    """Tells those who watch that these tasks' records have changed."""
    metrics: PoolMetrics
