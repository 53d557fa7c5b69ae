"""What processes that were killed have left in a machine's spool, where nobody looks for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from skipper.values.spool import Spool

log = logging.getLogger(__name__)

EVERY_S = 3600.0
AGE_S = 86400.0
"""How long what was left lies there at least, for who looks for what became of a call."""
TIDY_S = 5.0


async def keep_swept(
    spool: Spool,
    longest_s: Callable[[], float],
    *,
    every_s: float = EVERY_S,
    age_s: float = AGE_S,
) -> None:
    """Remove what nobody has written to for ``age_s``, every ``every_s``, for ever.

    Nor for twice the ``longest_s`` that a call may take: it may use what it was sent until its end.
    """
    while True:
        await asyncio.sleep(every_s)
        age_s = max(age_s, 2 * longest_s())  # a function that is no longer there may still run
        try:
            removed = await asyncio.to_thread(spool.sweep, age_s)
        except OSError as error:
            log.warning("the spool could not be looked through: %s", error.strerror)
            continue
        if removed:
            log.warning("%d values that nobody has taken were removed from the spool", removed)


async def keep_tidy(spool: Spool, *, every_s: float = TIDY_S) -> None:
    """Remove what this machine's processes have kept to write it again, and did not, for ever."""
    while True:
        await asyncio.sleep(every_s)
        with contextlib.suppress(OSError):  # of which the sweep tells
            await asyncio.to_thread(spool.tidy)


@contextlib.asynccontextmanager
async def swept(spool: Spool, longest_s: Callable[[], float]) -> AsyncIterator[None]:
    """:func:`keep_swept` and :func:`keep_tidy` beside the block, after which nothing is kept."""
    jobs = [asyncio.create_task(job) for job in (keep_swept(spool, longest_s), keep_tidy(spool))]
    try:
        yield
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        spool.let_go()
