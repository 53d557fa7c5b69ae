"""The gateway's certificate, taken up anew when its files change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from skipper import tls
from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.model import Settings

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often the files are looked at. What is new at two looks in a row is taken up."""

Stamp = tuple[int, int, int] | None
"""A file's time, size and number, by which a new one is told from the old."""


@contextlib.asynccontextmanager
async def offered(settings: Settings) -> AsyncIterator[ssl.SSLContext | None]:
    """The TLS that the gateway speaks while the block lasts; None where it speaks none.

    Raises StartError for files that are no certificate and key.
    """
    if settings.tls_files is None:
        yield None
        return
    try:
        renewed = Renewed(*settings.tls_files)
    except ValueError as error:
        raise StartError(f"gateway.tls_cert, tls_key: {error}.", code=Exit.INVALID) from None
    async with renewed.watched():
        yield renewed.context


class Renewed:
    """A pair of files, and the TLS that new connections speak. Raises ValueError for a bad pair.

    ``context`` is for the server, once and for all; each handshake is given the newest pair.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._newest = tls.server_context(certificate, key)
        self._taken_up = self._seen = self._stamps()
        self.context = tls.server_context(certificate, key)
        self.context.sni_callback = self._choose

    def look(self) -> None:
        """Take up files that have changed; keep the old pair where the new one is broken.

        Files that have changed since the last look are left for the next, because they may be
        half written, or a certificate may be there and its key not yet.
        """
        stamps, before = self._stamps(), self._seen
        self._seen = stamps
        if stamps == self._taken_up or stamps != before:
            return
        self._taken_up = stamps
        try:
            self._newest = tls.server_context(*self._files)
        except ValueError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("the certificate in %s is new and was taken up", self._files[0])

    @contextlib.asynccontextmanager
    async def watched(self, every_s: float = LOOK_S) -> AsyncIterator[None]:
        """Look ``every_s`` seconds while the block lasts."""
        watching = asyncio.create_task(self._watch(every_s))
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self.look()

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        """Called at the beginning of each handshake, whether or not the caller names a host."""
        del name, context
        connection.context = self._newest

    def _stamps(self) -> tuple[Stamp, Stamp]:
        certificate, key = self._files
        return _stamp(certificate), _stamp(key)


def _stamp(file: Path) -> Stamp:
    """That of what a link leads to, because renewals often turn a link."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
