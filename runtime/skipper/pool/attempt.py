"""One attempt of a task on this host, and what the durable lane needs of the host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from skipper import wire
from skipper.blobs import BlobStore
from skipper.instance.jobs import Report
from skipper.ledger import Ledger
from skipper.ledger.records import Claim
from skipper.metrics import PoolMetrics
from skipper.pool.catalogue import Entry, Served
from skipper.pool.instance import Instance
from skipper.pool.journal import Journal
from skipper.task import Outcome


@dataclass(eq=False, kw_only=True)
class Attempt:
    """One attempt that this host runs. ``reply`` is the function's, else the host's own."""

    claim: Claim
    reply: asyncio.Future[bytes]
    instance: Instance | None = None
    call_id: int = 0
    models: list[dict[str, Any]] = field(default_factory=list)
    verdict: bytes | None = None
    """What the host has decided meanwhile (cancelled, timed out); a value that comes still wins."""

    def decide(self, outcome: Outcome, detail: str) -> None:
        """Say how it ends unless a value comes; the first word counts."""
        if self.verdict is None:
            self.verdict = wire.problem(outcome, detail)


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the lane needs of its host."""

    ledger: Ledger
    journal: Journal
    blobs: BlobStore
    inline_bytes: int
    find: Callable[[str], Awaitable[Entry | None]]
    start: Callable[[Served], Awaitable[tuple[Instance, Report]]]
    missing: Callable[[Served], str]
    announce_models: Callable[[], Awaitable[None]]
    changed: Callable[[Iterable[str]], None]
    """Tells those who watch that these tasks' records have changed."""
    metrics: PoolMetrics
