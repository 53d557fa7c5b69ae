"""One reader's stream of a task's life, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial

from fastapi.responses import Response, StreamingResponse

from skipper.errors import SkipperError
from skipper.gateway.context import LOOK_S, Context, sse
from skipper.gateway.problems import Problem
from skipper.gateway.timeline import BEGINNING, Cursor, Gaps, Timeline, TimelineEvent
from skipper.ledger import events, tasks
from skipper.outcomes import error_document
from skipper.task import Task

PING_S = 15.0


EVENTS_AT_ONCE = 100
"""Events that one reader's stream holds in memory; a line of log has up to 16 KiB."""


async def life_of_task(context: Context, task_id: str, since: Cursor = BEGINNING) -> Response:
    """A task's life after ``since`` as it comes, until it has ended."""
    stream = TaskStream(context, task_id)
    await stream.open(since)
    if stream.is_over:
        return Response(status_code=204)  # tells a browser not to connect again
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream.run(), 200, headers, "text/event-stream")


async def _gaps(context: Context, task_id: str, seq: int) -> Gaps:
    if not seq:
        return Gaps()
    return Gaps(await context.ledger.read_events(lambda conn: events.numbers(conn, task_id, seq)))


class TaskStream:
    """One reader's stream of a task's life. It holds no more than one batch of events.

    The record is looked at when somebody says that it has changed, and once a second, since
    whatever changes it may run on another machine.
    """

    def __init__(self, context: Context, task_id: str) -> None:
        self._context, self._id = context, task_id
        self._timeline: Timeline
        self._task: Task

    async def open(self, cursor: Cursor) -> None:
        """Take the task up at ``cursor``. Raises a 404 or 410 problem."""
        await self._context.task(self._id)
        gaps = await _gaps(self._context, self._id, cursor.seq)
        with_traceback = self._context.shows_tracebacks
        self._timeline = Timeline(
            cursor, gaps, partial(error_document, with_traceback=with_traceback)
        )
        await self._look()

    @property
    def is_over(self) -> bool:
        """Whether the reader has seen the end already."""
        return self._timeline.is_over

    async def _look(self) -> None:
        found = await self._context.ledger.read(lambda conn: tasks.history(conn, self._id))
        if found is None:
            await self._context.task(self._id)  # says so
            return
        self._task, ended = found
        await self._context.announcements.before_telling([self._task])
        self._timeline.update(self._task, ended)

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Everything from the cursor on, then what happens, until the task has ended.

        It breaks off while the ledger is away: the reader comes back by itself. So it does in the
        moment in which the task expires.
        """
        with contextlib.suppress(SkipperError, Problem):
            async with contextlib.aclosing(self._run()) as texts:
                async for text in texts:
                    yield text

    async def _run(self) -> AsyncGenerator[bytes, None]:
        watchers, loop = self._context.watchers, asyncio.get_running_loop()
        with watchers.watching(self._id) as changed, watchers.following(self._id) as woken:
            yield b"retry: 2000\n\n"
            looked_at = sent_at = loop.time()
            changed.set()  # perhaps it has, since this was opened
            while not watchers.is_closing:
                woken.clear()
                if changed.is_set() or loop.time() - looked_at >= LOOK_S:
                    changed.clear()
                    looked_at = loop.time()
                    await self._look()
                async for event in self._announcements():
                    sent_at = loop.time()
                    yield sse(event.type, event.data, event.id)
                if self.is_over:
                    return
                if loop.time() - sent_at >= PING_S:
                    sent_at = loop.time()
                    yield b": ping\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), LOOK_S)

    async def _announcements(self) -> AsyncGenerator[TimelineEvent, None]:
        """What there is to tell, in order; with the end, if that has come."""
        is_fresh = False
        while True:
            seq = self._timeline.cursor.seq
            batch = await self._context.ledger.read_events(
                lambda conn, seq=seq: events.after(conn, self._id, seq, EVENTS_AT_ONCE)  # type: ignore[misc] # binds the loop's value
            )
            if not is_fresh and self._timeline.is_ahead(batch):
                is_fresh = True
                await self._look()
                continue
            for event in self._timeline.merge(batch):
                yield event
            if len(batch) < EVENTS_AT_ONCE:
                break
        for event in self._timeline.rest():
            yield event
        if self._task.state.is_terminal:
            yield self._timeline.done(await self._context.shown(self._task))
