"""Tasks as callers see them: read from the ledger, waited for, made a document. Knows no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any

from skipper import problems
from skipper.gateway.links import link
from skipper.gateway.problems import Problem
from skipper.ledger import Ledger, checkpoints, events, retention, tasks
from skipper.ledger.records import Result
from skipper.spec import Kind
from skipper.task import State, Task
from skipper.tasks.documents import task_document
from skipper.tasks.results import file_of
from skipper.tasks.watchers import Watchers
from skipper.wire.directory import Directory

POLL_S = 1.0
"""A waiting caller's task is read this often even if nobody has notified that it changed."""
MAX_WAIT_S = 60.0
"""The longest that a caller may wait for a task's end in one request."""
REMEMBERED = 1000
"""Training tasks whose success is known to have been announced."""


class ModelAnnouncements:
    """Training tasks whose success is about to be shown to a caller for the first time.

    Who has seen it is served by the new model from then on. The host that ran the task has notified
    the hosts of its own machine; those of this one may be others.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._announced: dict[str, None] = {}

    async def announce(self, seen: Iterable[Task]) -> None:
        """Have this machine's hosts load new models, if some of these tasks made them."""
        fresh = [
            task.id
            for task in seen
            if task.kind == Kind.TRAINING
            and task.state is State.SUCCEEDED
            and task.id not in self._announced
        ]
        if fresh:
            await self._directory.renew_models()
            self._announced |= dict.fromkeys(fresh)
            for old in list(self._announced)[:-REMEMBERED]:
                del self._announced[old]


class TaskReader:
    """Reads tasks for callers. ``shows_tracebacks`` is whether these callers may see tracebacks."""

    def __init__(
        self, ledger: Ledger, watchers: Watchers, directory: Directory, *, shows_tracebacks: bool
    ) -> None:
        self._ledger, self._watchers = ledger, watchers
        self._announcements = ModelAnnouncements(directory)
        self._shows_tracebacks = shows_tracebacks

    async def get(self, task_id: str) -> Task:
        """The task. Raises a not-found or gone :class:`Problem`."""
        return (await self.result(task_id)).task

    async def result(self, task_id: str) -> Result:
        """The task with its result. Raises a not-found or gone :class:`Problem`."""
        found = await self._ledger.read(lambda conn: tasks.result(conn, task_id))
        if found is None:
            if await self._ledger.read(lambda conn: retention.is_gone(conn, task_id)):
                raise Problem(
                    problems.GONE, f"task {task_id} ended long ago and has been forgotten"
                )
            raise Problem(problems.NOT_FOUND, f"there is no task {task_id!r}")
        await self.announce([found.task])
        return found

    async def until_ended(self, task_id: str, seconds: float) -> Result:
        """The task with its result, as soon as it has ended or ``seconds`` have passed.

        Raises a not-found or gone :class:`Problem`.
        """
        ends = time.monotonic() + seconds
        with self._watchers.watching(task_id) as changed:
            while True:
                changed.clear()
                result = await self.result(task_id)
                left = ends - time.monotonic()
                if result.task.state.is_terminal or left <= 0 or self._watchers.is_closing:
                    return result
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, POLL_S))

    async def announce(self, seen: Iterable[Task]) -> None:
        """Do what must be done before these tasks are shown to a caller."""
        await self._announcements.announce(seen)

    async def document(self, task: Task) -> dict[str, Any]:
        """The task's document, with its latest progress and its last checkpoint."""
        progress = checkpoint = file = None
        if task.started_at is not None:
            latest = await self._ledger.read_events(lambda conn: events.progress(conn, task.id))
            progress = latest.data if latest else None
        if task.state is not State.SUCCEEDED:
            checkpoint = await self._ledger.read(lambda conn: checkpoints.newest(conn, task.id))
        else:
            value = await self._ledger.read(lambda conn: tasks.stored_result(conn, task.id))
            file = None if value is None else file_of(value)
        shows = self._shows_tracebacks
        document = task_document(task, progress, checkpoint, file=file, with_traceback=shows)
        if document["result"] is not None:
            document["result"] = link(document["result"])
        return document
