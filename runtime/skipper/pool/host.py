"""The host process of one pool: puts its parts together; keeps its seat, lease and time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from skipper import role as roles
from skipper.blobs import BlobStore
from skipper.errors import SkipperError, StartError
from skipper.exits import Exit
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, hosts, leases
from skipper.ledger.connection import Connection
from skipper.ledger.records import HostRecord
from skipper.pool.catalogue import Catalogue
from skipper.pool.direct import lane as direct_lane
from skipper.pool.direct.lane import DirectLane
from skipper.pool.durable.attempt import LaneContext
from skipper.pool.durable.journal import Journal
from skipper.pool.durable.lane import TaskLane
from skipper.pool.links import Links
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.nested import Nested
from skipper.pool.processes.instance import Instance, Lane
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.output import Printed
from skipper.pool.processes.starter import Starter, Template
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.reload import Reloader
from skipper.pool.schedules import Schedules
from skipper.pool.watch import follow
from skipper.role import Role
from skipper.settings.webhooks import interest_in
from skipper.tasks.announcer import Announcer
from skipper.tasks.intake import Intake
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

BEAT_S = 2.0
BOARD_S = 1.0


class Host:
    """One pool of this machine."""

    def __init__(self, role: Role, ledger: Ledger, first: Template | None) -> None:
        settings, pool = role.settings, role.pool
        self._role, self._settings, self._pool, self._ledger = role, settings, pool, ledger
        self.id = f"{pool}-{secrets.token_hex(6)}"
        self._metrics = PoolMetrics()
        blobs = BlobStore(settings.storage_url)
        self._values = ValueStore(blobs, settings.storage.inline_kb * 1024)
        self._starter = Starter(settings.pools[pool], role.tree, first)
        self._served_models = ServedModels(ledger)
        self._instances = Instances(
            settings, pool, self._starter, self._served_models, self._metrics
        )
        self._catalogue = Catalogue(settings, pool, self._instances.quarantine)
        self._schedules = Schedules(ledger, settings, pool, self._catalogue)
        self._direct = DirectLane(
            self._instances.pool_settings,
            self._instances.slots,
            start=lambda version: self._instances.serve(version, Lane.DIRECT),
            untrained=self._untrained,
            metrics=self._metrics,
        )
        self._journal = Journal(ledger, self._publish_task_events)
        self._directory = Directory(
            settings.run_dir,
            settings.local_pools,
            LinkRole.HOST,
            on_tasks=lambda ids: self._nested.tasks_changed(ids),  # noqa: PLW0108 - made below
        )
        self._tasks = TaskLane(
            pool,
            self.id,
            self._instances.task_slots,
            self._lane_context(),
        )
        intake = Intake(ledger, self._values, Announcer(self._nudge, None))
        self._nested = Nested(
            ledger, self._values, self._directory, intake, direct=self._direct, tasks_=self._tasks
        )
        self._links = Links(
            settings.run_dir / f"{pool}.sock",
            self._direct,
            self._tasks,
            answer=self._answer,
            describe=self._describe,
        )
        self._reloader = Reloader(
            settings,
            pool,
            self._catalogue,
            self._instances.run,
            direct=self._direct,
            tasks=self._tasks,
            quarantine=self._instances.quarantine,
            on_change=self._publish_catalogue,
            metrics=self._metrics,
        )
        self._join_instances()

    def _join_instances(self) -> None:
        """Have those who own calls hear what instances say: they are made after them."""
        self._instances.lanes = {Lane.DIRECT: self._direct, Lane.TASKS: self._tasks}
        self._instances.on_worn = self._direct.fleet.replace
        self._instances.on_own = self._nested.on_frame
        self._instances.on_printed = self._printed
        self._renewing = asyncio.Lock()

    def _lane_context(self) -> LaneContext:
        return LaneContext(
            ledger=self._ledger,
            journal=self._journal,
            values=self._values,
            find=self._catalogue.find,
            start=lambda version: self._instances.serve(version, Lane.TASKS),
            untrained=self._untrained,
            announce_models=self._announce_models,
            changed=self._publish_tasks,
            metrics=self._metrics,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until ``stopping`` is set, then drain."""
        pool = self._instances.pool_settings
        if pool.devices and pool.require_device and not self._instances.devices:
            detail = f"pools.{self._pool}.require_device is set and no GPU was found"
            raise StartError(detail, code=Exit.INVALID)
        async with AsyncExitStack() as stack:
            stack.callback(self._starter.close)
            stack.push_async_callback(self._instances.close)
            await self._register()
            failpoint("host.registered")
            await self._served_models.refresh()
            await self._links.open()
            stack.callback(self._links.close)
            await stack.enter_async_context(self._directory)
            await stack.enter_async_context(_background(*self._jobs()))
            self._role.ready(devices=[device.name for device in self._instances.devices])
            await stopping.wait()
            grace_s = self._settings.run.grace_s * 0.8
            await asyncio.gather(self._direct.close(grace_s), self._tasks.close(grace_s))
            await self._journal.close()
            await self._ledger.write(lambda conn: hosts.drop(conn, self.id))
            failpoint("host.dropped")

    def _jobs(self) -> Iterable[Coroutine[Any, Any, None]]:
        yield self._tasks.run()
        yield self._journal.run()
        yield self._beat()
        yield self._sweep()
        yield self._follow_models()
        yield self._reloader.refresh()
        yield self._schedules.run()
        if self._settings.run.reload:
            yield follow(self._settings, self._reloader.refresh)

    async def _register(self) -> None:
        """Take the seat. Whoever had it is dead, so its tasks go back to the queue at once."""
        machine = socket.gethostname()
        record = HostRecord(
            id=self.id,
            pool=self._pool,
            machine=machine,
            seat=f"{machine}/{self._settings.project_dir}/{self._pool}",
            started_at=time.time(),
        )
        now = time.time()

        def take(conn: Connection) -> int:
            return sum(len(leases.rescue(conn, dead, now)) for dead in hosts.register(conn, record))

        if rescued := await self._ledger.write(take):
            log.warning("%d tasks of a host that died go back to the queue", rescued)

    async def _beat(self) -> None:
        while True:
            try:
                failpoint("host.beating")
                is_known = await self._ledger.write(
                    lambda conn: hosts.beat(conn, self.id), durable=False
                )
                if not is_known:
                    # The scheduler gave this host up and others run its tasks by now: start over.
                    log.error("this host was declared lost; it starts again")
                    os._exit(1)
                wanted = await self._ledger.read(lambda conn: leases.cancel_requests(conn, self.id))
                for id_ in wanted:
                    self._tasks.cancel(id_)
                await self._tasks.give_back_strays()
            except SkipperError as error:
                log.warning("no heartbeat: %s", error)
            await asyncio.sleep(BEAT_S)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(direct_lane.SWEEP_S)
            now = time.monotonic()
            self._direct.sweep(now)
            self._tasks.sweep(now)
            self._instances.sweep(now)

    async def _follow_models(self) -> None:
        while True:
            with contextlib.suppress(SkipperError):
                await self._renew_models()
            await asyncio.sleep(BOARD_S)

    async def _renew_models(self) -> None:
        """Take in new versions of models: afterwards no call is given to an older one."""
        async with self._renewing:  # whoever comes second waits for what the first has found
            fresh = await self._served_models.refresh()
            for instance in self._instances.all if fresh else ():
                for ref in fresh if instance.lane is not Lane.DIRECT else ():
                    instance.take_model(ref)
            await self._direct.fleet.renew(fresh)

    # --- what the parts ask of each other ---

    def _untrained(self, version: FunctionVersion) -> str:
        return self._served_models.untrained(version, self._catalogue.versions)

    async def _announce_models(self) -> None:
        """Have every host of this machine look for new versions before anything else happens."""
        await self._renew_models()
        others = [
            link
            for pool, link in self._directory.links.items()
            if pool != self._pool and link.is_up
        ]
        await asyncio.gather(*(link.ask(RenewModels()) for link in others), return_exceptions=True)

    def _nudge(self, pool: str, task_id: str) -> None:
        if pool == self._pool:
            self._tasks.nudge(task_id)
        else:
            self._directory.nudge(pool, task_id)

    def _publish_tasks(self, ids: Iterable[str]) -> None:
        changed = list(ids)
        self._links.publish_tasks(changed)
        self._nested.tasks_changed(changed)

    def _publish_task_events(self, ids: Iterable[str]) -> None:
        self._links.publish_task_events(ids)

    def _publish_catalogue(self) -> None:
        self._catalogue.wake()
        self._starter.keep(self._catalogue.sources)
        self._links.publish_catalogue()
        self._schedules.changed()

    def _printed(self, instance: Instance, printed: Printed) -> str | None:
        return self._tasks.on_printed(instance, printed) if instance.lane is Lane.TASKS else None

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
                await self._renew_models()
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
            slots=self._direct.slots,
            task_slots=self._tasks.slots,
            task_slots_free=self._tasks.free,
            tasks_listed=self._tasks.waiting,
            busy=self._direct.busy,
            queued=self._direct.queued,
            tasks_running=len(self._tasks.running),
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


@contextlib.contextmanager
def seat(path: Path) -> Any:
    """Hold the pool's seat on this machine; waits until the process that had it is gone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
