"""What a system has stored: nothing is missing while it is needed, nothing is left after that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from skipper.blobs import SHARDS, BlobStore
from skipper.ledger import Ledger, models
from skipper.scheduler.clock import CautiousClock
from skipper.scheduler.pruning import Pruner
from skipper.scheduler.shelves import Shelves
from skipper.settings.model import Settings
from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole
from tests.chaos.evidence import Violation

_LATER_S = 30 * 86400.0
_TOLD = 5


class LaterClock(CautiousClock):
    """Tells a time at which all that has an end has expired."""

    def now(self) -> float:
        return time.time() + _LATER_S


async def left_over(settings: Settings, tmp_dir: Path) -> list[Violation]:
    """What is wrong with the store of a project that does not run, once everything has expired.

    Takes its tasks and its files out of the ledger.
    """
    blobs = BlobStore(settings.storage_url)
    with Ledger.open(settings.database_url, schema=settings.schema) as ledger:
        pruner = Pruner(
            ledger,
            blobs,
            retention_s=0.0,
            checkpoints_s=0.0,
            tmp_dir=tmp_dir,
            clock=LaterClock(),
            shelves=Shelves(ledger, Directory(tmp_dir, (), LinkRole.SCHEDULER), {}),
        )
        for _ in range(SHARDS):
            while await pruner.round():
                continue
        versions = await ledger.read(lambda conn: models.published_since(conn, 0))
    needed: set[str] = set()
    for version in versions:
        needed |= blobs.members(version.digest)
    stored = {name for number in range(SHARDS) for name in blobs.shard(number)}
    return [
        *_wrong("orphans", "a blob that nobody needs", stored - needed),
        *_wrong("lost", "a blob of a model is not stored:", needed - stored),
    ]


def _wrong(kind: str, what: str, names: set[str]) -> Iterator[Violation]:
    if names:
        yield Violation(kind, f"{len(names)} x {what} {sorted(names)[:_TOLD]}")


def on_the_way(settings: Settings) -> Iterator[Violation]:
    """What is left of values that were on their way when a tree ended."""
    folder = settings.spool_dir
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    yield from _wrong("orphans", "left in the spool:", names)
