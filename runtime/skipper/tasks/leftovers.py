"""What processes that were killed have left in a machine's spool, where nobody looks for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from skipper.values.spool import Spool

log = logging.getLogger(__name__)

EVERY_S = 3600.0
AGE_S = 86400.0
"""No call is believed to use what it was sent for longer."""


async def keep_swept(spool: Spool, *, every_s: float = EVERY_S, age_s: float = AGE_S) -> None:
    """Remove what nobody has written to for ``age_s``, every ``every_s``, for ever."""
    while True:
        await asyncio.sleep(every_s)
        try:
            removed = await asyncio.to_thread(spool.sweep, age_s)
        except OSError as error:
            log.warning("the spool could not be looked through: %s", error.strerror)
            continue
        if removed:
            log.warning("%d values that nobody has taken were removed from the spool", removed)


@contextlib.asynccontextmanager
async def swept(spool: Spool) -> AsyncIterator[None]:
    """:func:`keep_swept` beside the block."""
    sweeping = asyncio.create_task(keep_swept(spool))
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
