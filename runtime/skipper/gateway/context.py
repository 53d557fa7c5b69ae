"""What the gateway's routes share: directory, ledger, intake, and who waits for which task."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path

from skipper import problems
from skipper.blobs import BlobStore
from skipper.gateway.problems import Problem
from skipper.ledger import Ledger, events, retention, tasks
from skipper.ledger.records import Result
from skipper.settings.model import Settings, is_loopback
from skipper.settings.webhooks import interest_in
from skipper.spec import Kind
from skipper.task import State, Task
from skipper.tasks.announcer import Announcer
from skipper.tasks.documents import task_document
from skipper.tasks.intake import Intake
from skipper.tasks.publisher import Publisher
from skipper.tasks.watchers import Watchers
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory

TaskId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
REMEMBERED = 1000
"""Training tasks that are known to have been told."""
LOOK_S = 1.0
"""A waiting caller's task is looked at this often even if nobody says that it has changed."""


class ModelAnnouncements:
    """Training tasks whose success is about to be told for the first time.

    Whoever hears of it is served by the new model from then on. The host that ran the task has told
    the hosts of its own machine; those of this one may be others.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._told: dict[str, None] = {}

    async def before_telling(self, seen: Iterable[Task]) -> None:
        """Have this machine's hosts look for new models, if some of these tasks made them."""
        announcements = [
            task.id
            for task in seen
            if task.kind == Kind.TRAINING
            and task.state is State.SUCCEEDED
            and task.id not in self._told
        ]
        if announcements:
            await self._directory.renew_models()
            self._told |= dict.fromkeys(announcements)
            for old in list(self._told)[:-REMEMBERED]:
                del self._told[old]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Handed to every route."""

    settings: Settings
    ledger: Ledger
    values: ValueStore
    directory: Directory
    intake: Intake
    publisher: Publisher
    announcements: ModelAnnouncements
    watchers: Watchers

    @property
    def shows_tracebacks(self) -> bool:
        """Tracebacks are told to callers on this machine only."""
        return is_loopback(self.settings.gateway.host)

    @property
    def max_body(self) -> int:
        return int(self.settings.gateway.max_body_mb * (1 << 20))

    async def task(self, task_id: str) -> Task:
        """The task. Raises a 404 or 410 problem."""
        return (await self.result(task_id)).task

    async def result(self, task_id: str) -> Result:
        """The task with its result. Raises a 404 or 410 problem."""
        found = await self.ledger.read(lambda conn: tasks.result(conn, task_id))
        if found is None:
            if await self.ledger.read(lambda conn: retention.is_gone(conn, task_id)):
                raise Problem(
                    problems.GONE, f"task {task_id} ended long ago and has been forgotten"
                )
            raise Problem(problems.NOT_FOUND, f"there is no task {task_id!r}")
        await self.announcements.before_telling([found.task])
        return found

    async def wait_for_end(self, task_id: str, seconds: float) -> Result:
        """The task with its result, as soon as it has ended or ``seconds`` have passed."""
        ends = time.monotonic() + seconds
        with self.watchers.watching(task_id) as changed:
            while True:
                changed.clear()
                result = await self.result(task_id)
                left = ends - time.monotonic()
                if result.task.state.is_terminal or left <= 0 or self.watchers.is_closing:
                    return result
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, LOOK_S))

    async def shown(self, task: Task) -> dict[str, Any]:
        """A task as callers see it, with its latest progress."""
        progress = None
        if task.started_at is not None:
            latest = await self.ledger.read_events(lambda conn: events.progress(conn, task.id))
            progress = latest.data if latest else None
        return task_document(task, progress, with_traceback=self.shows_tracebacks)


def sse(event: str, data: Any, id_: object = None) -> bytes:
    """One server-sent event; ``data`` is JSON text as bytes, or a value."""
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    head = f"id: {id_}\n" if id_ is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + text + b"\n\n"


@contextlib.asynccontextmanager
async def open_context(
    settings: Settings, on_functions: Callable[[], None]
) -> AsyncIterator[Context]:
    """Everything the routes need, for the life of the gateway."""
    watchers = Watchers()
    ledger = await asyncio.to_thread(
        Ledger.open,
        settings.database_url,
        schema=settings.schema,
        interest=interest_in(settings.webhooks),
    )
    values = ValueStore(BlobStore(settings.storage_url), settings.storage.inline_kb * 1024)
    directory = Directory(
        settings.run_dir,
        settings.local_pools,
        "gateway",
        on_tasks=watchers.changed,
        on_said=watchers.emitted,
        on_functions=on_functions,
    )
    with ledger, Publisher(settings) as publisher:
        announcer = Announcer(directory.nudge, publisher.publish)
        async with directory:
            yield Context(
                settings=settings,
                ledger=ledger,
                values=values,
                directory=directory,
                intake=Intake(ledger, values, announcer),
                publisher=publisher,
                announcements=ModelAnnouncements(directory),
                watchers=watchers,
            )


MAX_PAGE = 200


Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
