"""The threads of a store: one writes in groups, one reads, each on a connection of its own.

Whatever waits when the writer comes free goes into one transaction, so that a commit's wait for the
disk is shared. An operation that raises makes its group roll back, and every member runs again
alone: only the guilty one fails. While the server is away a group waits and is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from skipper.errors import UnavailableError
from skipper.failpoints import failpoint
from skipper.ledger.connection import Connection, Database, Mark

log = logging.getLogger(__name__)

_BACKOFF_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)

T = TypeVar("T")
Operation: TypeAlias = Callable[[Connection], T]
Merged: TypeAlias = Callable[[Connection, Sequence[Any]], Sequence[T]]
Finisher: TypeAlias = Callable[[Connection], None]


class PendingOperation(Generic[T]):
    """One operation that waits, and where its outcome goes.

    Either an ``operation``, or an ``item`` for a ``merged`` one, which takes all such at once.
    """

    __slots__ = ("error", "future", "is_durable", "item", "merged", "operation", "value")

    def __init__(
        self,
        operation: Operation[T] | None = None,
        *,
        merged: Merged[T] | None = None,
        item: Any = None,
        is_durable: bool = True,
    ) -> None:
        self.operation = operation
        self.merged = merged
        self.item = item
        self.is_durable = is_durable
        self.value: Any = None
        self.error: BaseException | None = None
        self.future: asyncio.Future[T]

    def settle(self) -> None:
        """Hand the outcome to the future, unless nobody waits for it any more."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


def _settle(jobs: Iterable[PendingOperation[Any]]) -> None:
    for job in jobs:
        job.settle()


def _deliver(jobs: Iterable[PendingOperation[Any]]) -> None:
    """Settle ``jobs``, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[PendingOperation[Any]]] = {}
    for job in jobs:
        by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, some)
        except RuntimeError:  # the loop has been closed, and with it whoever waited
            log.debug("nobody waits any more for %d outcomes", len(some))


class Worker:
    """A thread with a connection. Subclasses decide how a group of jobs runs on it."""

    group_size: int

    def __init__(self, database: Database, name: str, *, patience_s: float) -> None:
        self._database = database
        self._patience_s = patience_s
        self._name = name
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._queue: deque[PendingOperation[Any]] = deque()
        self._changed = threading.Condition()  # guards the queue and the next
        self._is_closed = False
        self._group: list[PendingOperation[Any]] = []
        self._out_since: float | None = None

    def submit(self, job: PendingOperation[Any]) -> None:
        """Queue ``job``. Once this has returned it runs, even if its caller goes away."""
        with self._changed:
            if self._is_closed:
                raise UnavailableError("The ledger has been closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._queue.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Run what is queued, then end the thread and its connection."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._next_group():
            try:
                self._process(self._group)
            except BaseException as error:
                log.exception("a group of the ledger failed")
                for job in self._group:
                    job.error = job.error or error
            _deliver(self._group)
        self._disconnect()

    def _next_group(self) -> bool:
        """Wait for jobs and make them the group. False: there are none and will be none."""
        with self._changed:
            while not self._queue and not self._is_closed:
                self._changed.wait()
            self._group = self._taken(self.group_size)
            return bool(self._group)

    def _taken(self, number: int) -> list[PendingOperation[Any]]:
        return [self._queue.popleft() for _ in range(min(number, len(self._queue)))]

    def _process(self, jobs: list[PendingOperation[Any]]) -> None:
        """Run ``jobs`` to their outcomes, through errors and outages."""
        waiting = deque([jobs])
        tries = 0
        while waiting:
            group = waiting[0]
            try:
                self._run_group(group)
            except Exception as error:  # noqa: BLE001 - sorted below
                if self._database.is_outage(error):
                    tries += 1
                    if self._may_wait(error, tries):
                        continue
                    _refuse(waiting, "The database cannot be reached", error)
                    return
                waiting.popleft()
                self._rollback()
                if self._database.is_refusal(error):
                    _refuse([group], "The database takes no work", error)
                elif len(group) == 1:
                    group[0].error = error
                else:
                    waiting.extendleft([job] for job in reversed(group))
            else:
                waiting.popleft()
                self._out_since = None

    def _run_group(self, jobs: list[PendingOperation[Any]]) -> None:
        raise NotImplementedError

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.connect()
        return self._connection

    def _may_wait(self, error: BaseException, tries: int) -> bool:
        """After an outage: wait before the next try, or False if there has been enough of it."""
        self._disconnect()
        now = time.monotonic()
        if self._out_since is None:
            self._out_since = now
            log.warning("the database does not answer, trying again: %s", error)
        if now - self._out_since >= self._patience_s:
            return False
        time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S)) - 1])
        return True

    def _rollback(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except Exception:  # noqa: BLE001 - a connection that cannot roll back is of no more use
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:
                log.debug("a connection did not close", exc_info=True)


def _refuse(
    groups: Iterable[list[PendingOperation[Any]]], sentence: str, error: BaseException
) -> None:
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    for group in groups:
        for job in group:
            job.error = UnavailableError(f"{sentence}: {reason}.")


class Reader(Worker):
    """Runs each job by itself, outside any transaction."""

    group_size = 16  # they are all answered at once, so none should wait for many

    def _run_group(self, jobs: list[PendingOperation[Any]]) -> None:
        connection = self._connected()
        for job in jobs:
            assert job.operation is not None
            job.value = job.operation(connection)


class _Unsure(NamedTuple):
    """A group whose commit has been sent and not yet answered."""

    jobs: list[PendingOperation[Any]]
    mark: Mark
    values: list[Any]


class Writer(Worker):
    """Runs a group in one transaction. ``finisher`` runs in it last."""

    group_size = 256

    def __init__(
        self, database: Database, name: str, *, patience_s: float, finisher: Finisher | None = None
    ) -> None:
        super().__init__(database, name, patience_s=patience_s)
        self._finisher = finisher
        self._id = uuid.uuid4().hex
        self._number = 0
        self._unsure: _Unsure | None = None

    def _run_group(self, jobs: list[PendingOperation[Any]]) -> None:
        connection = self._connected()
        values = self._earlier_values(connection, jobs)
        if values is None:
            values = self._transact(connection, jobs)
        for job, value in zip(jobs, values, strict=True):
            job.value = value

    def _earlier_values(
        self, connection: Connection, jobs: list[PendingOperation[Any]]
    ) -> list[Any] | None:
        """What ``jobs`` came to, if their commit went through without an answer of the server's."""
        unsure = self._unsure
        is_in = unsure is not None and unsure.jobs is jobs and connection.has_committed(unsure.mark)
        self._unsure = None
        return unsure.values if unsure and is_in else None

    def _transact(self, connection: Connection, jobs: list[PendingOperation[Any]]) -> list[Any]:
        self._number += 1
        mark = Mark(self._id, self._number, any(job.is_durable for job in jobs))
        connection.begin(mark)
        if jobs is self._group:
            self._let_in(mark.is_durable)
        connection.forget()
        values = _run_all(connection, jobs)
        if self._finisher is not None:
            self._finisher(connection)
        self._unsure = _Unsure(jobs, mark, values)
        connection.commit()
        self._unsure = None
        failpoint("ledger.committed")
        return values

    def _let_in(self, is_durable: bool) -> None:
        """Add to the group what came while it waited to begin, if its commit is safe enough."""
        with self._changed:
            while self._queue and len(self._group) < self.group_size:
                if self._queue[0].is_durable and not is_durable:
                    return
                self._group.append(self._queue.popleft())


def _run_all(connection: Connection, jobs: list[PendingOperation[Any]]) -> list[Any]:
    """The value of each job; those that can be merged run as one call per kind."""
    values: list[Any] = [None] * len(jobs)
    kinds: dict[Merged[Any], list[int]] = {}
    for place, job in enumerate(jobs):
        if job.merged is not None:
            kinds.setdefault(job.merged, []).append(place)
        elif job.operation is not None:
            values[place] = job.operation(connection)
    for merged, places in kinds.items():
        found = merged(connection, [jobs[place].item for place in places])
        for place, value in zip(places, found, strict=True):
            values[place] = value
    return values
