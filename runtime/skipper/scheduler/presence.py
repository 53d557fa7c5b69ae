"""A scheduler's row among the hosts: by it others see that somebody does the rounds."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path

from skipper.ledger import Ledger, hosts
from skipper.ledger.connection import Connection
from skipper.ledger.records import HostRecord


class SchedulerPresence:
    """Beats in the ledger; registers at the first beat, and again where it was declared lost."""

    def __init__(self, ledger: Ledger, project_dir: Path) -> None:
        machine = socket.gethostname()
        self._ledger = ledger
        self._host = HostRecord(
            id=f"{hosts.SCHEDULER}-{secrets.token_hex(6)}",
            pool=hosts.SCHEDULER,
            machine=machine,
            seat=f"{machine}/{project_dir}/{hosts.SCHEDULER}",
            started_at=time.time(),
        )

    async def beat(self) -> None:
        """Record that a round is about to be done."""
        await self._ledger.write(self._beat, durable=False)

    async def leave(self) -> None:
        """Delete the row: no more rounds will come."""
        await self._ledger.write(lambda conn: hosts.drop(conn, self._host.id), durable=False)

    def _beat(self, conn: Connection) -> None:
        if not hosts.beat(conn, self._host.id):
            for earlier in hosts.register(conn, self._host):
                hosts.drop(conn, earlier)
