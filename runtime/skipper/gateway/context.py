"""What the gateway's routes share, for the life of the process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from skipper.blobs import BlobStore
from skipper.gateway.budget import Budget
from skipper.gateway.calls import Dispatcher
from skipper.gateway.inputs import Inputs
from skipper.gateway.reception import SpoolRoom
from skipper.gateway.task_reader import TaskReader
from skipper.ledger import Ledger
from skipper.settings.model import Settings
from skipper.settings.webhooks import interest_in
from skipper.tasks.announcer import Announcer
from skipper.tasks.files import Files
from skipper.tasks.intake import Intake, bounds_of
from skipper.tasks.leftovers import swept
from skipper.tasks.publisher import Publisher
from skipper.tasks.watchers import Watchers
from skipper.values.spool import KEPT_BYTES, Spool
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole

LOADS = 4
"""Stored results that are read at once: whether there is room for one shows when it is there."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Handed to every route."""

    settings: Settings
    ledger: Ledger
    values: ValueStore
    files: Files
    inputs: Inputs
    directory: Directory
    intake: Intake
    publisher: Publisher
    watchers: Watchers
    tasks: TaskReader
    calls: Dispatcher
    budget: Budget
    shows_tracebacks: bool
    """Whether callers see the tracebacks of functions."""

    @property
    def max_body(self) -> int:
        """How many bytes a request's body may have."""
        return _bytes(self.settings.gateway.max_body_mb)


def _bytes(mb: float) -> int:
    return int(mb * (1 << 20))


@contextlib.asynccontextmanager
async def open_context(settings: Settings) -> AsyncIterator[Context]:
    """Hold open what the routes need. Raises StartError where that cannot be."""
    watchers, gateway = Watchers(), settings.gateway
    ledger = await asyncio.to_thread(
        Ledger.open,
        settings.database_url,
        schema=settings.schema,
        interest=interest_in(settings.webhooks),
    )
    inline_bytes = settings.storage.inline_kb * 1024
    room = SpoolRoom(int(settings.files.quota_gb * 1e9))
    spool = Spool(settings.spool_dir, keeps=KEPT_BYTES, on_removed=room.forget)
    blobs = BlobStore(settings.storage_url)
    values = ValueStore(blobs, inline_bytes, spool, loads=LOADS)
    directory = Directory(
        settings.run_dir,
        settings.local_pools,
        LinkRole.GATEWAY,
        spool=spool,
        on_tasks=watchers.changed,
        on_task_events=watchers.emitted,
    )
    with ledger, Publisher(settings) as publisher:
        shows_tracebacks = settings.gateway.shows_tracebacks
        announcer = Announcer(directory.nudge, publisher.publish)
        intake = Intake(ledger, values, announcer, bounds_of(settings.tasks))
        files = Files(ledger, values, settings.files)
        tasks = TaskReader(ledger, watchers, directory, shows_tracebacks=shows_tracebacks)
        async with directory, swept(spool, directory.longest_s):
            yield Context(
                settings=settings,
                ledger=ledger,
                values=values,
                files=files,
                inputs=Inputs(
                    spool=spool,
                    room=room,
                    most=_bytes(settings.files.max_mb),
                ),
                directory=directory,
                intake=intake,
                publisher=publisher,
                watchers=watchers,
                budget=Budget(_bytes(gateway.memory_mb), _bytes(gateway.max_body_mb)),
                tasks=tasks,
                calls=Dispatcher(
                    directory,
                    intake,
                    tasks,
                    shows_tracebacks=shows_tracebacks,
                    terms=settings.tasks,
                ),
                shows_tracebacks=shows_tracebacks,
            )
