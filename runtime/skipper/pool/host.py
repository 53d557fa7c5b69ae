"""The host process of one pool: puts its parts together; keeps its seat, lease and time."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from skipper import role as roles
from skipper.blobs import BlobStore
from skipper.errors import StartError
from skipper.exits import Exit
from skipper.ledger import Ledger
from skipper.pool.catalogue import Catalogue
from skipper.pool.checks import InputChecks
from skipper.pool.direct import lane as direct_lane
from skipper.pool.direct.lane import DirectLane
from skipper.pool.durable.ahead import ClaimedAhead
from skipper.pool.durable.attempt import LaneContext, RunningAttempts
from skipper.pool.durable.claimer import Claimer
from skipper.pool.durable.journal import Journal
from skipper.pool.durable.lane import TaskLane
from skipper.pool.durable.recorder import Recorder
from skipper.pool.durable.reserve import Reserve
from skipper.pool.links import Links
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.nested import Nested
from skipper.pool.presence import Presence, seat
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.starter import Starter, Template
from skipper.pool.reload import Reloader
from skipper.pool.schedules import Schedules
from skipper.pool.serving import Serving
from skipper.pool.slots import Capacity, Slots
from skipper.pool.watch import follow
from skipper.role import Role
from skipper.settings.webhooks import interest_in
from skipper.tasks.announcer import Announcer
from skipper.tasks.intake import Intake
from skipper.tasks.watchers import Watchers
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory
from skipper.wire.messages import (
    Answer,
    AnyQuestion,
    CancelAnswer,
    CancelTask,
    CatalogueSnapshot,
    DeviceInfo,
    GetMetrics,
    GetPoolState,
    LinkRole,
    ModelsRenewed,
    PoolState,
    RenewModels,
)

log = logging.getLogger(__name__)


class Host:
    """One pool of this machine."""

    def __init__(self, role: Role, ledger: Ledger, first: Template | None) -> None:
        settings, pool = role.settings, role.pool
        self._role, self._settings, self._pool = role, settings, pool
        self.id = f"{pool}-{secrets.token_hex(6)}"
        self._pool_settings = settings.pools[pool]
        capacity = Capacity.of(self._pool_settings)
        self._metrics = PoolMetrics()
        values = ValueStore(BlobStore(settings.storage_url), settings.storage.inline_kb * 1024)
        self._watchers = Watchers()
        self._directory = Directory(
            settings.run_dir, settings.local_pools, LinkRole.HOST, on_tasks=self._watchers.changed
        )
        self._journal = Journal(ledger, self._publish_task_events)
        shared = LaneContext(
            pool=pool,
            host_id=self.id,
            ledger=ledger,
            journal=self._journal,
            values=values,
            metrics=self._metrics,
            changed=self._publish_tasks,
        )
        running, ahead = RunningAttempts(), ClaimedAhead(Slots(capacity.tasks))
        self._claimer = Claimer(shared, running, ahead)
        intake = Intake(ledger, values, Announcer(self._nudge, None))
        nested = Nested(
            ledger, values, self._directory, intake, running=running, watchers=self._watchers
        )
        self._starter = Starter(self._pool_settings, role.tree, first)
        self._instances = Instances(settings, pool, self._starter, nested, capacity)
        self._catalogue = Catalogue(settings, pool, self._instances.quarantine)
        self._schedules = Schedules(ledger, settings, pool, self._catalogue)
        others = (link for name, link in self._directory.links.items() if name != pool)
        self._serving = Serving(
            self._instances, self._catalogue, ServedModels(ledger), others, self._metrics
        )
        self._direct = DirectLane(
            self._pool_settings, Slots(capacity.direct), self._serving, self._metrics
        )
        self._tasks = TaskLane(
            shared,
            self._claimer,
            Reserve(shared, self._catalogue, self._serving),
            Recorder(shared, self._serving),
        )
        self._presence = Presence(ledger, self.id, pool, self._claimer, self._tasks)
        self._checks = InputChecks(settings.project_dir, self._catalogue.assigned, self._instances)
        self._links = Links(
            settings.run_dir / f"{pool}.sock",
            self._direct,
            self._claimer,
            self._checks,
            answer=self._answer,
            describe=self._describe,
        )
        self._reloader = Reloader(
            settings,
            pool,
            self._catalogue,
            self._instances,
            direct=self._direct,
            tasks=self._tasks,
            quarantine=self._instances.quarantine,
            on_change=self._publish_catalogue,
            metrics=self._metrics,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until ``stopping`` is set, then drain."""
        pool = self._pool_settings
        if pool.devices and pool.require_device and not self._instances.devices:
            detail = f"pools.{self._pool}.require_device is set and no GPU was found"
            raise StartError(detail, code=Exit.INVALID)
        async with AsyncExitStack() as stack:
            stack.callback(self._starter.close)
            stack.push_async_callback(self._instances.close)
            await self._presence.register(self._settings.project_dir)
            await self._serving.renew()
            await self._links.open()
            stack.callback(self._links.close)
            await stack.enter_async_context(self._directory)
            await stack.enter_async_context(_background(*self._jobs()))
            self._role.ready()
            await stopping.wait()
            grace_s = self._settings.run.grace_s * 0.8
            await asyncio.gather(self._direct.close(grace_s), self._tasks.close(grace_s))
            await self._journal.close()
            await self._presence.leave()

    def _jobs(self) -> Iterable[Coroutine[Any, Any, None]]:
        yield self._tasks.run()
        yield self._journal.run()
        yield self._presence.beat()
        yield self._sweep()
        yield self._serving.follow()
        yield self._reloader.refresh()
        yield self._schedules.run()
        if self._settings.run.reload:
            yield follow(self._settings, self._reloader.refresh)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(direct_lane.SWEEP_S)
            now = time.monotonic()
            self._direct.sweep(now)
            self._tasks.sweep(now)
            self._checks.sweep(now)
            self._instances.sweep(now)

    # --- what the parts ask of each other ---

    def _nudge(self, pool: str, task_id: str) -> None:
        if pool == self._pool:
            self._claimer.nudge(task_id)
        else:
            self._directory.nudge(pool, task_id)

    def _publish_tasks(self, ids: Iterable[str]) -> None:
        changed = list(ids)
        self._links.publish_tasks(changed)
        self._watchers.changed(changed)

    def _publish_task_events(self, ids: Iterable[str]) -> None:
        self._links.publish_task_events(ids)

    def _publish_catalogue(self) -> None:
        self._catalogue.wake()
        self._starter.keep(self._catalogue.sources)
        self._links.publish_catalogue()
        self._schedules.changed()

    async def _answer(self, question: AnyQuestion) -> Answer:
        """Answer what is asked over a link."""
        match question:
            case GetPoolState():
                return self._pool_state()
            case GetMetrics():
                instances = self._instances.describe()
                return self._metrics.snapshot(
                    queued=self._direct.queued,
                    instances=((each.function, each.state) for each in instances),
                )
            case RenewModels():
                await self._serving.renew()
                return ModelsRenewed()
            case CancelTask(task_id=task_id):
                return CancelAnswer(known=self._tasks.cancel(task_id))

    def _describe(self) -> CatalogueSnapshot:
        return self._catalogue.snapshot(self.id)

    def _pool_state(self) -> PoolState:
        return PoolState(
            pool=self._pool,
            host_id=self.id,
            pid=os.getpid(),
            devices=tuple(
                DeviceInfo(name=each.name, memory_mb=each.memory_mb)
                for each in self._instances.devices
            ),
            slots=self._direct.slots.capacity,
            task_slots=self._claimer.ahead.slots.capacity,
            task_slots_free=max(0, self._claimer.ahead.free),
            tasks_listed=self._claimer.waiting,
            busy=self._direct.slots.busy,
            queued=self._direct.queued,
            tasks_running=len(self._claimer.running),
            instances=self._instances.describe(),
            templates=self._starter.describe(),
            consumer=self._links.has_consumer,
            consumer_problem=self._links.consumer_problem,
        )


@asynccontextmanager
async def _background(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``jobs`` beside the block. One that fails ends the process; the launcher starts anew."""
    running = [asyncio.create_task(job) for job in jobs]
    for task in running:
        task.add_done_callback(_exit_on_failure)
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _exit_on_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of the host failed; it starts again", exc_info=error)
        os._exit(1)


def main(first: Template | None = None, argv: list[str] | None = None) -> None:
    """Run the host until it is told to stop. ``first`` is a template that has been started."""
    role = Role.start("Host of one pool", argv)
    with seat(role.settings.run_dir / f"{role.pool}.lock"):
        roles.run(role, partial(_main, first))


async def _main(first: Template | None, role: Role, stopping: asyncio.Event) -> None:
    settings = role.settings
    ledger = await asyncio.to_thread(
        Ledger.open,
        settings.database_url,
        schema=settings.schema,
        interest=interest_in(settings.webhooks),
    )
    with ledger:
        await Host(role, ledger, first).run(stopping)
