"""One round a second over the ledger; the broker only hears ids."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from skipper import role as roles
from skipper.blobs import BlobStore
from skipper.broker import Publisher
from skipper.errors import SkipperError
from skipper.ledger import Ledger, events, hosts, retention, tasks
from skipper.ledger.leases import rescue
from skipper.ledger.records import Beat
from skipper.role import Role
from skipper.scheduler.clock import CautiousClock

log = logging.getLogger(__name__)

ROUND_S = 1.0
REPUBLISH_S = 5.0
"""An id that nobody has claimed for this long is published again."""
LOST_S = 10.0
"""A host whose heartbeat counter has stood still for this long, by our own clock, is lost."""
BLIND_S = 5.0
"""After a longer pause between two looks, a counter that stands still proves nothing."""
PRUNE_S = 60.0
TOMBSTONES_S = 30 * 86400.0
"""How much longer than the task itself it is remembered that there was one."""
BATCH = 1000
YOUNG_S = 3600.0
"""A blob that was put this recently is kept: a task that refers to it may be on its way."""
LEFT_S = 86400.0
"""What was begun this long ago and is not done was left by a process that was killed."""
AHEAD_S = 86400.0
"""What is dated further ahead was dated by a clock that was wrong."""


class Pulse:
    """Judges hosts by their counters. Wall clocks, theirs or ours, play no part.

    It is shown counters only when this process could write too: where nobody can, nobody can beat.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = -math.inf

    def lost(self, beats: Iterable[Beat]) -> list[str]:
        """The hosts whose counters have stood still for too long while this process was looking."""
        now = self._clock()
        was_looking = now - self._looked <= BLIND_S
        seen: dict[str, tuple[int, float]] = {}
        for beat in beats:
            counter, since = self._seen.get(beat.id, (-1, now))
            stands_still = was_looking and counter == beat.counter
            seen[beat.id] = (beat.counter, since if stands_still else now)
        self._seen, self._looked = seen, now
        return [id_ for id_, (_, since) in seen.items() if now - since > LOST_S]


class Scheduler:
    """Keeps tasks moving. ``publish(pool, ids)`` makes ids known to whoever can run them."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        publish: Callable[[str, list[str]], None],
        *,
        retention_s: float,
        tmp_dir: Path,
        clock: CautiousClock | None = None,
    ) -> None:
        self._ledger, self._blobs = ledger, blobs
        self._publish, self._retention_s = publish, retention_s
        self._tmp_dir = tmp_dir
        self._pulse, self._clock = Pulse(), clock or CautiousClock()
        self._id = f"scheduler-{secrets.token_hex(6)}"
        self._next_prune = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """A round a second until ``stopping`` is set; one that fails is tried again."""
        is_well = True
        while not stopping.is_set():
            try:
                await self.round()
                is_well = True
            except SkipperError as error:
                if is_well:
                    log.warning("the ledger does not answer: %s", error)
                is_well = False
            try:
                await asyncio.wait_for(stopping.wait(), ROUND_S)
            except TimeoutError:
                continue

    async def round(self) -> None:
        await self._rescue()
        now, sure = time.time(), self._clock.now()
        moved = [
            *await self._ledger.write(lambda conn: tasks.due(conn, now, BATCH), durable=False),
            *await self._ledger.write(
                lambda conn: tasks.unpublished(conn, now - REPUBLISH_S, now, BATCH), durable=False
            ),
        ]
        self._tell(moved)
        await self._ledger.write(lambda conn: tasks.expire(conn, sure), durable=False)
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + PRUNE_S
            await self._prune(sure)

    async def _rescue(self) -> None:
        """Give the tasks of lost hosts back to the queue."""
        look = partial(hosts.look, who=self._id, now=time.time())
        beats = await self._ledger.write(look, durable=False)
        for host in [*self._pulse.lost(beats), *await self._ledger.read(hosts.unregistered)]:
            now = time.time()
            released = await self._ledger.write(partial(rescue, host=host, now=now))
            log.warning("host %s is lost; %d of its tasks are rescued", host, len(released))
            self._tell((item.id, item.pool) for item in released if not item.state.is_terminal)

    def _tell(self, moved: Iterable[tuple[str, str]]) -> None:
        by_pool: defaultdict[str, list[str]] = defaultdict(list)
        for id_, pool in moved:
            by_pool[pool].append(id_)
        for pool, ids in by_pool.items():
            self._publish(pool, ids)

    async def _prune(self, now: float) -> None:
        """Forget ended tasks that are older than retention allows, with what they stored."""
        before = now - self._retention_s
        pruned = await self._ledger.write(lambda conn: retention.prune(conn, before, now, BATCH))
        ahead = time.time() + AHEAD_S
        await self._ledger.record(lambda conn: events.prune(conn, before, ahead=ahead))
        await self._ledger.write(lambda conn: retention.forget(conn, before - TOMBSTONES_S, BATCH))
        for ref in pruned.refs:
            await asyncio.to_thread(self._blobs.delete, ref, now - YOUNG_S)
        if pruned.ids:
            log.info("%d tasks expired", len(pruned.ids))
        await asyncio.to_thread(sweep_folder, self._tmp_dir, now - LEFT_S)
        await asyncio.to_thread(self._blobs.sweep, now - LEFT_S)


def sweep_folder(folder: Path, before: float) -> None:
    """Remove what processes that were killed have left in a folder of temporary things."""
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # whoever made it has removed it
            if path.lstat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)


async def _main(role: Role, stopping: asyncio.Event) -> None:
    settings = role.settings
    ledger = await asyncio.to_thread(Ledger.open, settings.database_url, schema=settings.schema)
    with ledger, Publisher(settings) as publisher:
        blobs = BlobStore(settings.storage_url)
        scheduler = Scheduler(
            ledger,
            blobs,
            publisher.publish,
            retention_s=settings.retention.results_days * 86400,
            tmp_dir=settings.state_dir / "tmp",
        )
        role.ready()
        await scheduler.run(stopping)


def main(argv: list[str] | None = None) -> None:
    """Run the scheduler until it is told to stop."""
    roles.run(Role.start("Scheduler", argv), _main)
