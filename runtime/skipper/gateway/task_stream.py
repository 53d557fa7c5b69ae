"""One reader's stream of a task's life, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial

from fastapi.responses import Response, StreamingResponse

from skipper.errors import SkipperError
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.gateway.stream import EVENTS, sse
from skipper.gateway.task_reader import POLL_S
from skipper.gateway.timeline import BEGINNING, Cursor, Gaps, Timeline, TimelineEvent
from skipper.ledger import Ledger, events, tasks
from skipper.ledger.events import EventBatch
from skipper.outcomes import error_document
from skipper.task import Task

PING_S = 15.0
"""A comment breaks a longer silence, because proxies close connections on which nothing comes."""
EVENTS_AT_ONCE = 100
BYTES_AT_ONCE = 64 << 10
"""Events that one reader's stream holds in memory, and about how much JSON, or one of 64 KiB."""


async def life_of_task(context: Context, task_id: str, since: Cursor = BEGINNING) -> Response:
    """A task's life after ``since`` as it comes, until it has ended.

    Raises a not-found or gone :class:`Problem`.
    """
    stream = await TaskStream.open(context, task_id, since)
    if stream.is_over:
        return Response(status_code=204)  # at which a browser does not connect again
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream.run(), 200, headers, EVENTS.decode())


async def gaps_after(ledger: Ledger, task_id: str, seq: int) -> Gaps:
    """What counts the events that are not kept, for a reader who has read up to ``seq``."""
    if not seq:
        return Gaps()
    return Gaps(await ledger.read_events(lambda conn: events.numbers(conn, task_id, seq)))


class TaskStream:
    """One reader's stream of a task's life. It holds no more than one batch of events.

    The record is read when somebody notifies that it has changed, and every ``poll_s``, because
    whatever changes it may run on another machine. A comment follows on ``ping_s`` of silence.
    """

    def __init__(
        self,
        context: Context,
        task: Task,
        timeline: Timeline,
        *,
        poll_s: float,
        ping_s: float,
    ) -> None:
        self._context, self._task, self._timeline = context, task, timeline
        self._poll_s, self._ping_s = poll_s, ping_s

    @classmethod
    async def open(
        cls,
        context: Context,
        task_id: str,
        cursor: Cursor,
        *,
        poll_s: float = POLL_S,
        ping_s: float = PING_S,
    ) -> TaskStream:
        """The stream after ``cursor``. Raises a not-found or gone :class:`Problem`."""
        task = await context.tasks.get(task_id)
        gaps = await gaps_after(context.ledger, task_id, cursor.seq)
        explain = partial(error_document, with_traceback=context.shows_tracebacks)
        timeline = Timeline(cursor, gaps, explain)
        stream = cls(context, task, timeline, poll_s=poll_s, ping_s=ping_s)
        await stream._read()
        return stream

    @property
    def is_over(self) -> bool:
        """Whether the reader has seen the end already."""
        return self._timeline.is_over

    async def _read(self) -> None:
        """Read the record as it is now. Raises a gone :class:`Problem`."""
        id_ = self._task.id
        found = await self._context.ledger.read(lambda conn: tasks.history(conn, id_))
        if found is None:
            await self._context.tasks.get(id_)  # raises the problem, because it is gone
            return
        self._task, ended = found
        await self._context.tasks.announce([self._task])
        self._timeline.update(self._task, ended)

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Everything from the cursor on, then what happens, until the task has ended.

        It breaks off while the ledger is away, because the reader comes back by itself. So it does
        in the moment in which the task expires.
        """
        with contextlib.suppress(SkipperError, Problem):
            async with contextlib.aclosing(self._run()) as texts:
                async for text in texts:
                    yield text

    async def _run(self) -> AsyncGenerator[bytes, None]:
        watchers, loop, id_ = self._context.watchers, asyncio.get_running_loop(), self._task.id
        with watchers.watching(id_) as changed, watchers.following(id_) as woken:
            yield b"retry: 2000\n\n"
            read_at = sent_at = loop.time()
            changed.set()  # because it may have changed since this was opened
            while not watchers.is_closing:
                woken.clear()
                if changed.is_set() or loop.time() - read_at >= self._poll_s:
                    changed.clear()
                    read_at = loop.time()
                    await self._read()
                async for event in self._new_events():
                    sent_at = loop.time()
                    yield sse(event.type, event.data, event.id)
                if self.is_over:
                    return
                if loop.time() - sent_at >= self._ping_s:
                    sent_at = loop.time()
                    yield b": ping\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), self._poll_s)

    async def _new_events(self) -> AsyncGenerator[TimelineEvent, None]:
        """What is after the cursor, in order; with the end, if that has come."""
        has_read = False
        while True:
            batch = await self._batch()
            if not has_read and self._timeline.is_ahead(batch.events):
                has_read = True
                await self._read()
                continue
            for event in self._timeline.merge(batch.events):
                yield event
            if not batch.has_more:
                break
        for event in self._timeline.rest():
            yield event
        if self._task.state.is_terminal:
            yield self._timeline.done(await self._context.tasks.document(self._task))

    async def _batch(self) -> EventBatch:
        id_, seq = self._task.id, self._timeline.cursor.seq
        return await self._context.ledger.read_events(
            lambda conn: events.after(conn, id_, seq, EVENTS_AT_ONCE, BYTES_AT_ONCE)
        )
