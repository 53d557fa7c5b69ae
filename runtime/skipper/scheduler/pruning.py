"""What is deleted when: a task with its values and events, and what nobody came to need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from skipper.blobs import SHARDS, BlobStore
from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, checkpoints, events, files, models, retention, schedules, shelf
from skipper.ledger.records import Pruned
from skipper.scheduler.clock import CautiousClock
from skipper.scheduler.shelves import Shelves

log = logging.getLogger(__name__)

ROUND_S = 60.0
BATCH = 500
"""Tasks that go in one transaction."""
EVENTS_BATCH = STONES_BATCH = 10_000
TOMBSTONES_S = 30 * 86400.0
"""How much longer than the task itself it is remembered that there was one."""
YOUNG_S = 3600.0
"""A blob that was put this recently is kept: a task that refers to it may be on its way."""
LEFT_S = 86400.0
"""What was begun this long ago and is not done was left by a process that was killed."""


class Pruner:
    """Forgets ended tasks after ``retention_s``, and finds what killed processes have left."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        *,
        retention_s: float,
        checkpoints_s: float,
        tmp_dir: Path,
        clock: CautiousClock,
        shelves: Shelves,
    ) -> None:
        self._ledger, self._blobs, self._clock = ledger, blobs, clock
        self._retention_s, self._tmp_dir = retention_s, tmp_dir
        self._checkpoints_s, self._shelves = checkpoints_s, shelves
        self._shard = 0
        self._models = 0
        self._of_models: dict[int, frozenset[str]] = {}
        """The blobs of each version that is kept, by the number of its publication."""

    async def run(self, stopping: asyncio.Event) -> None:
        """A round a minute until ``stopping`` is set, or a second while there is more to do."""
        while not stopping.is_set():
            is_more = False
            try:
                is_more = await self.round()
            except (SkipperError, OSError, ValueError) as error:
                log.warning("what is old could not be removed: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 1.0 if is_more else ROUND_S)

    async def round(self) -> bool:
        """Forget one batch of old tasks; whether there may be more.

        Where that was all, one part of what may have been left behind is looked through, too.
        """
        now = self._clock.now()
        before = now - self._retention_s
        if await self._prune(before) == BATCH:
            return True
        await self._ledger.write(
            lambda conn: retention.forget(conn, before - TOMBSTONES_S, STONES_BATCH)
        )
        await self._ledger.write(lambda conn: schedules.forget(conn, before - TOMBSTONES_S))
        await self._ledger.record(lambda conn: events.forget_marks(conn, before))
        await self._expire_files(now)
        await self._forget_checkpoints(now)
        await self._shelves.clear(now)
        await self._sweep_blobs()
        await asyncio.to_thread(sweep_folder, self._tmp_dir, now - LEFT_S)
        await asyncio.to_thread(self._blobs.sweep, now - LEFT_S)
        return False

    async def _prune(self, before: float) -> int:
        """Forget up to a batch of tasks that ended before ``before``; how many were found."""
        ids = await self._ledger.read(lambda conn: retention.old(conn, before, BATCH))
        # Events first: should this process end here, the tasks are found again, and so are these.
        while await self._forget_events(ids) == EVENTS_BATCH:
            continue
        pruned: Pruned = await self._ledger.write(
            lambda conn: retention.prune(conn, ids, self._clock.now())
        )
        failpoint("scheduler.pruned")
        await self._delete(pruned.refs, YOUNG_S)
        if pruned.ids:
            log.info("%d tasks expired", len(pruned.ids))
        return len(ids)

    async def _expire_files(self, now: float) -> None:
        """Forget the files whose time has come, and what nobody needs of them.

        A while later, because a task that was given one just in time may be on its way.
        """
        refs = await self._ledger.write(lambda conn: files.expire(conn, now - YOUNG_S, BATCH))
        unused = await self._ledger.read(lambda conn: retention.unused(conn, refs))
        await self._delete(sorted(unused), YOUNG_S)

    async def _forget_checkpoints(self, now: float) -> None:
        """Drop the checkpoints that no attempt will need, and delete those dropped a while ago."""
        before = now - self._checkpoints_s
        while await self._ledger.write(lambda conn: checkpoints.drop(conn, before, now, BATCH)):
            continue
        age_s = self._blobs.settles_s
        refs = await self._ledger.write(lambda conn: checkpoints.forget(conn, now - age_s, BATCH))
        failpoint("scheduler.forgotten")
        unused = await self._ledger.read(lambda conn: retention.unused(conn, refs))
        await self._delete(sorted(unused), age_s)

    async def _forget_events(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        return await self._ledger.record(lambda conn: events.forget(conn, ids, EVENTS_BATCH))

    async def _sweep_blobs(self) -> None:
        """Delete what lies in the next part of the store, is old, and is nobody's.

        Such are the inputs of tasks that were never accepted, the results and models of attempts
        that did not live to write their end.
        """
        stored = await asyncio.to_thread(self._blobs.shard, self._shard)
        self._shard = (self._shard + 1) % SHARDS
        for at in range(0, len(stored), BATCH):
            some = stored[at : at + BATCH]
            unused = await self._ledger.read(lambda conn, some=some: retention.unused(conn, some))  # type: ignore[misc]  # binds the loop's value
            await self._delete(sorted(unused), LEFT_S)

    async def _delete(self, refs: Sequence[str], age_s: float) -> None:
        """Delete those of these blobs that no model needs and that are older than ``age_s``."""
        if not refs:
            return
        await self._learn_models()
        before, of_models = self._clock.now() - age_s, set().union(*self._of_models.values())
        for ref in refs:
            if ref not in of_models:
                await asyncio.to_thread(self._blobs.delete, ref, before)

    async def _learn_models(self) -> None:
        """Remember the blobs of versions published since the last look; forget those removed."""
        for version in await self._ledger.read(
            lambda conn: models.published_since(conn, self._models)
        ):
            blobs = await asyncio.to_thread(self._blobs.members, version.digest)
            self._of_models[version.seq] = blobs
            self._models = version.seq
        for seq in await self._ledger.read(shelf.removed):
            self._of_models.pop(seq, None)


def sweep_folder(folder: Path, before: float) -> None:
    """Remove what processes that were killed had left in a folder of temporary things by then."""
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # whoever made it has removed it
            if path.lstat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)
