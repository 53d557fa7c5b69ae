"""A ledger for tests that have no event loop, or whose own must stand still meanwhile."""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any, TypeVar

from skipper.ledger import Connection, Ledger
from skipper.ledger.worker import PendingOperation, Worker

T = TypeVar("T")


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """An event loop that runs in a thread of its own until the tests are over."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, name="blocking-ledger", daemon=True)
    thread.start()

    def stop() -> None:
        made.call_soon_threadsafe(made.stop)
        thread.join()
        made.close()

    atexit.register(stop)
    return made


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` comes to in that loop."""
    return asyncio.run_coroutine_threadsafe(work, loop()).result()


def submitted(worker: Worker, job: PendingOperation[T]) -> futures.Future[T]:
    """Queue ``job``; where its outcome comes to."""
    job.future = loop().create_future()
    worker.submit(job)
    return asyncio.run_coroutine_threadsafe(_outcome(job), loop())


async def _outcome(job: PendingOperation[T]) -> T:
    return await job.future


class BlockingLedger(Ledger):
    """Every operation in a second form, which returns when it is done."""

    def write_now(self, op: Callable[[Connection], T], *, durable: bool = True) -> T:
        return wait_for(Ledger.write(self, op, durable=durable))

    def read_now(self, op: Callable[[Connection], T]) -> T:
        return wait_for(Ledger.read(self, op))

    def record_now(self, op: Callable[[Connection], T]) -> T:
        return wait_for(Ledger.record(self, op))

    def read_events_now(self, op: Callable[[Connection], T]) -> T:
        return wait_for(Ledger.read_events(self, op))
