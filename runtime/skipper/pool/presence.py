"""A host among others: its seat on this machine, its record in the ledger, and its heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, hosts, leases
from skipper.ledger.connection import Connection
from skipper.ledger.records import HostRecord
from skipper.pool.durable.claimer import Claimer
from skipper.pool.durable.lane import TaskLane

log = logging.getLogger(__name__)

BEAT_S = 2.0


class Presence:
    """Has the ledger know that this host lives, and whose tasks are to be cancelled here."""

    def __init__(
        self, ledger: Ledger, host_id: str, pool: str, claimer: Claimer, tasks: TaskLane
    ) -> None:
        self._ledger, self._host_id, self._pool = ledger, host_id, pool
        self._claimer, self._tasks = claimer, tasks

    async def register(self, project_dir: Path) -> None:
        """Take the seat. Whoever had it is dead, so its tasks go back to the queue at once."""
        machine, now = socket.gethostname(), time.time()
        record = HostRecord(
            id=self._host_id,
            pool=self._pool,
            machine=machine,
            seat=f"{machine}/{project_dir}/{self._pool}",
            started_at=now,
        )

        def take(conn: Connection) -> int:
            return sum(len(leases.rescue(conn, dead, now)) for dead in hosts.register(conn, record))

        if rescued := await self._ledger.write(take):
            log.warning("%d tasks of a host that died go back to the queue", rescued)
        failpoint("host.registered")

    async def leave(self) -> None:
        """Give up the seat: this host ends."""
        await self._ledger.write(lambda conn: hosts.drop(conn, self._host_id))
        failpoint("host.dropped")

    async def beat(self) -> None:
        """Show now and then that this host lives, for ever. Given up by others, it ends."""
        while True:
            try:
                await self._beat()
            except SkipperError as error:
                log.warning("no heartbeat: %s", error)
            await asyncio.sleep(BEAT_S)

    async def _beat(self) -> None:
        failpoint("host.beating")
        is_known = await self._ledger.write(
            lambda conn: hosts.beat(conn, self._host_id), durable=False
        )
        if not is_known:
            # The scheduler gave this host up and others run its tasks by now: start over.
            log.error("this host was declared lost; it starts again")
            os._exit(1)
        wanted = await self._ledger.read(lambda conn: leases.cancel_requests(conn, self._host_id))
        for id_ in wanted:
            self._tasks.cancel(id_)
        await self._claimer.give_back_strays()


@contextlib.contextmanager
def seat(path: Path) -> Iterator[None]:
    """Hold the pool's seat on this machine; waits until the process that had it is gone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
