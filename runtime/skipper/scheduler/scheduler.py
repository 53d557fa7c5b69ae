"""One round a second over the ledger, which alone is believed: what is announced may be lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from skipper import role as roles
from skipper.blobs import BlobStore
from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, hosts, tasks
from skipper.ledger.leases import rescue
from skipper.ledger.records import Beat
from skipper.role import Role
from skipper.scheduler.clock import CautiousClock
from skipper.scheduler.deliveries import Deliveries
from skipper.scheduler.presence import SchedulerPresence
from skipper.scheduler.pruning import Pruner
from skipper.scheduler.shelves import Shelves
from skipper.scheduler.ticker import Ticker
from skipper.settings.webhooks import interest_in
from skipper.tasks.announcer import Announcer
from skipper.tasks.intake import Intake, bounds_of
from skipper.tasks.publisher import Publisher
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole

log = logging.getLogger(__name__)

ROUND_S = 1.0
REPUBLISH_S = 5.0
"""An id that nobody has claimed for this long is published again."""
LOST_S = 10.0
"""A host whose heartbeat counter has stood still for this long, by our own clock, is lost."""
BLIND_S = 5.0
"""After a longer pause between two looks, a counter that stands still proves nothing."""
REVIEW_S = 60.0
"""Schedules are looked through this often for what a clock that went back has put off."""
BATCH = 1000


class Pulse:
    """Judges hosts by their counters. Wall clocks, theirs or ours, play no part.

    It is shown counters only when this process could beat too: where nobody can write, nobody can.
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
    """Keeps tasks moving: those that ``intake`` accepts, of schedules, and those there are.

    ``beat`` begins every round. Where it fails, as on a full disk, no host is judged. By ``clock``
    tasks expire.
    """

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        announcer: Announcer,
        *,
        beat: Callable[[], Awaitable[None]],
        clock: CautiousClock,
    ) -> None:
        self._ledger, self._announcer, self._beat = ledger, announcer, beat
        self._pulse, self._clock = Pulse(), clock
        self._ticker = Ticker(ledger, intake)
        self._next_review = 0.0

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
        await self._beat()
        await self._rescue()
        now, sure = time.time(), self._clock.now()
        moved = [
            *await self._ledger.write(lambda conn: tasks.due(conn, now, BATCH), durable=False),
            *await self._ledger.write(
                lambda conn: tasks.unpublished(conn, now - REPUBLISH_S, now, BATCH), durable=False
            ),
        ]
        self._announce(moved)
        await self._ticker.fire(now)
        await self._ledger.write(lambda conn: tasks.expire(conn, sure), durable=False)
        if time.monotonic() >= self._next_review:
            self._next_review = time.monotonic() + REVIEW_S
            await self._ticker.review(now)

    async def _rescue(self) -> None:
        """Give the tasks of lost hosts back to the queue."""
        beats = await self._ledger.read(hosts.beats)
        lost = [*self._pulse.lost(beats), *await self._ledger.read(hosts.unregistered)]
        failpoint("scheduler.looked")
        for host in lost:
            now = time.time()
            released = await self._ledger.write(partial(rescue, host=host, now=now))
            failpoint("scheduler.rescued")
            log.warning("host %s is lost; %d of its tasks are rescued", host, len(released))
            self._announce([(it.id, it.pool) for it in released if not it.state.is_terminal])

    def _announce(self, moved: Sequence[tuple[str, str]]) -> None:
        """Make known what waits again, or waits still."""
        if moved:
            failpoint("scheduler.announcing")
            self._announcer.announce(moved)


async def _main(role: Role, stopping: asyncio.Event) -> None:
    settings = role.settings
    ledger = await asyncio.to_thread(
        Ledger.open,
        settings.database_url,
        schema=settings.schema,
        interest=interest_in(settings.webhooks),
    )
    blobs = BlobStore(settings.storage_url)
    hosts_here = Directory(settings.run_dir, settings.local_pools, LinkRole.SCHEDULER)
    with ledger, Publisher(settings) as publisher:
        presence, clock = SchedulerPresence(ledger, settings.project_dir), CautiousClock()
        announcer = Announcer(hosts_here.nudge, publisher.publish)
        values = ValueStore(blobs, settings.storage.inline_kb * 1024)
        intake = Intake(ledger, values, announcer, bounds_of(settings.tasks))
        scheduler = Scheduler(ledger, intake, announcer, beat=presence.beat, clock=clock)
        pruner = Pruner(
            ledger,
            blobs,
            retention_s=settings.retention.results_days * 86400,
            checkpoints_s=settings.checkpoints.expire_days * 86400,
            tmp_dir=settings.state_dir / "tmp",
            clock=clock,
            shelves=Shelves(ledger, hosts_here, settings.models),
        )
        deliveries = Deliveries(ledger, settings.webhooks, intake)
        async with hosts_here:
            role.ready()
            await asyncio.gather(*(part.run(stopping) for part in (scheduler, pruner, deliveries)))
        with contextlib.suppress(SkipperError):  # the ledger is away: then others find out
            await presence.leave()


def main(argv: list[str] | None = None) -> None:
    """Run the scheduler until it is asked to stop."""
    roles.run(Role.start("Scheduler", argv), _main)
