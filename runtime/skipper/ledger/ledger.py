"""The ledger: one durable store for tasks, hosts and models, and one beside it for events.

Operations are functions that take a :class:`~skipper.ledger.connection.Connection` first; the
modules beside this one hold them. They run in the store's threads, so they must not touch anything
else, and may run twice where the first run was rolled back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from skipper.ledger import endings, totals, usage
from skipper.ledger.connection import Connection, Database
from skipper.ledger.endings import Interest
from skipper.ledger.opening import prepare
from skipper.ledger.worker import Finisher, PendingOperation, Reader, Worker, Writer

T = TypeVar("T")
Item = TypeVar("Item")


class Store:
    """One database with the threads that write to it and read from it."""

    def __init__(
        self, database: Database, name: str, *, patience_s: float, finisher: Finisher | None = None
    ) -> None:
        self.writer = Writer(database, f"{name}-writer", patience_s=patience_s, finisher=finisher)
        self.reader = Reader(database, f"{name}-reader", patience_s=patience_s)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()


class Ledger:
    """Both stores. Made by :meth:`open`; any thread and any event loop may use it.

    Once a write has been asked for it runs, even if the caller stops waiting for it. While the
    database is away for less than ``patience_s`` callers wait; after that they get
    :class:`~skipper.errors.UnavailableError`, and the database is tried again at every new request.
    """

    def __init__(self, tasks: Store, events: Store) -> None:
        self._tasks = tasks
        self._events = events

    @classmethod
    def open(
        cls,
        url: str,
        *,
        events_url: str | None = None,
        schema: str | None = None,
        patience_s: float = 10.0,
        interest: Interest | None = None,
    ) -> Self:
        """Open the ledger at ``url``, and make or update its tables first where needed.

        Without ``events_url`` a SQLite ledger has its events in ``events.db`` beside it, and a
        PostgreSQL ledger in the same ``schema``. Ends of tasks that are of ``interest`` are
        recorded in ``endings``. Raises :class:`~skipper.errors.StartError`.
        """
        ledger, events = prepare(url, events_url, schema=schema, patience_s=patience_s)
        return cls(
            Store(ledger, "ledger", patience_s=patience_s, finisher=_finisher(interest)),
            Store(events, "events", patience_s=patience_s),
        )

    async def write(self, op: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run ``op`` in the ledger's next transaction and return its value once that is committed.

        Operations that wait together share the transaction, in no promised order; if one raises,
        only its caller gets the error. The commit waits for the disk unless all of them are written
        with ``durable=False``.
        """
        return await _answer(self._tasks.writer, PendingOperation(op, is_durable=durable))

    async def merge(
        self,
        op: Callable[[Connection, Sequence[Item]], Sequence[T]],
        item: Item,
        *,
        durable: bool = True,
    ) -> T:
        """:meth:`write` for an ``op`` on many items: those that wait together go in one call."""
        return await _answer(
            self._tasks.writer, PendingOperation(merged=op, item=item, is_durable=durable)
        )

    async def read(self, op: Callable[[Connection], T]) -> T:
        """Run ``op``, which only reads, without waiting for writers."""
        return await _answer(self._tasks.reader, PendingOperation(op))

    async def record(self, op: Callable[[Connection], T]) -> T:
        """:meth:`write` to the event store, whose commits never wait for the disk."""
        return await _answer(self._events.writer, PendingOperation(op, is_durable=False))

    async def read_events(self, op: Callable[[Connection], T]) -> T:
        """:meth:`read` from the event store."""
        return await _answer(self._events.reader, PendingOperation(op))

    def close(self) -> None:
        """Do what is queued, then close the connections. Blocks while that takes."""
        self._tasks.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _finisher(interest: Interest | None) -> Finisher:
    """The last act of a transaction: counting, and perhaps recording, what it has ended."""

    def finish(conn: Connection) -> None:
        if interest is not None:
            endings.record(conn, interest)
        totals.flush(conn)
        usage.flush(conn)

    return finish


async def _answer(worker: Worker, job: PendingOperation[T]) -> T:
    job.future = answer = asyncio.get_running_loop().create_future()
    worker.submit(job)
    value: T = await answer
    return value
